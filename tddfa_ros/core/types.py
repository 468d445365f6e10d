"""The values that pass between the stages: frozen records of numpy arrays.

Images are BGR uint8, (height, width, 3), C-contiguous. Pixel centres lie at integers, x to the
right, y down; boxes and regions of interest (ROI) are ``xyxy`` float32. Image space adds z in
pixels, larger = nearer to the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

LANDMARK_COUNT = 68


class TrackState(IntEnum):
    """What the tracker knows of a face; the numbers are those of ``tddfa_msgs/Face``."""

    DETECTED = 0
    """Begins in this frame, or comes back: the detector found it here, or in a still picture."""
    TRACKED = 1
    """Followed from the frame before."""


@dataclass(frozen=True)
class Detections:
    """Faces as a detector reports them, best first.

    Attributes
    ----------
    boxes_xyxy : (n, 4) float32, pixels; not clipped to the image
    scores : (n,) float32, in [0, 1]
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class MorphableParams:
    """Everything needed to rebuild each vertex of one face.

    In the coordinates of the network's input, a vertex is
    ``camera[:, :3] @ (mean + shape_basis @ shape + expression_basis @ expression) + camera[:, 3]``
    with y up; :func:`tddfa_ros.core.morphable.image_camera` gives the camera of image space.

    Attributes
    ----------
    camera : (3, 4) float32, scaled rotation | offset in pixels of the network's input
    shape : (n_shape,) float32
    expression : (n_expression,) float32
    roi_xyxy : (4,) float32, the region of the image that the network saw, pixels
    input_size : side of the network's input, pixels
    """

    camera: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    roi_xyxy: np.ndarray
    input_size: int

    @property
    def vector(self) -> np.ndarray:
        """(12 + n_shape + n_expression,) float32: camera row-major, shape, expression."""
        return np.concatenate([self.camera.ravel(), self.shape, self.expression])

    @classmethod
    def from_vector(
        cls, vector: np.ndarray, shape_count: int, roi_xyxy: np.ndarray, input_size: int
    ) -> MorphableParams:
        """Split a regressed vector; what follows the shape coefficients is the expression."""
        vector = np.asarray(vector, np.float32)
        return cls(
            camera=vector[:12].reshape(3, 4),
            shape=vector[12 : 12 + shape_count],
            expression=vector[12 + shape_count :],
            roi_xyxy=np.asarray(roi_xyxy, np.float32),
            input_size=int(input_size),
        )


Fits = tuple[tuple[MorphableParams | None, ...], np.ndarray]
"""Parameters of n faces, None where one has no fit; (n,) float32 confidences, NaN if unknown."""


@dataclass(frozen=True)
class HeadPose:
    """Orientation of a head under the weak-perspective camera of the fit.

    Attributes
    ----------
    quat_xyzw : (4,) float64, rotation from the face frame (REP-155: x out of the face, y to the
        subject's left, z to the scalp) to the camera's optical frame (z forward, x right, y down);
        an upright face that looks straight into the camera has (0.5, 0.5, -0.5, 0.5)
    yaw_pitch_roll_rad : (3,) float64; order and signs are those of
        :func:`tddfa_ros.core.pose.yaw_pitch_roll_from_rotation`
    reference_euler_deg : (3,) float64, yaw, pitch, roll in degrees as 3DDFA_V2 gives them
    scale : float, pixels of the image per unit of the face model
    """

    quat_xyzw: np.ndarray
    yaw_pitch_roll_rad: np.ndarray
    reference_euler_deg: np.ndarray
    scale: float


@dataclass(frozen=True)
class Face:
    """One fitted face in one frame.

    Attributes
    ----------
    id : starts with a letter, unique in a run
    state : how it was found in this frame
    age_frames : frames since it was first seen, those while it was lost too; 0 in the first
    score : the detector's score when last confirmed, in [0, 1]
    confidence : the regressor's own "this is a face", in [0, 1]; NaN if the model set has none
    box_xyxy : (4,) float32, the detector's box, carried along with the landmarks between detections
    params : the fit
    landmarks : (68, 3) float32, iBUG order, image space, z above the lowest of the 68
    pose : orientation of the head
    age_ns : nanoseconds by the images' stamps since it was first seen
    """

    id: str
    state: TrackState
    age_frames: int
    score: float
    confidence: float
    box_xyxy: np.ndarray
    params: MorphableParams
    landmarks: np.ndarray
    pose: HeadPose
    age_ns: int = 0


@dataclass(frozen=True)
class FrameResult:
    """All faces of one image.

    Attributes
    ----------
    frame_index : counts the processed images of a run from 0
    stamp_ns : the image's own time stamp, nanoseconds
    image_height, image_width : pixels
    faces : by descending area of their boxes; the first is the most prominent
    timings_ms : milliseconds by stage name; a stage that did not run is absent
    """

    frame_index: int
    stamp_ns: int
    image_height: int
    image_width: int
    faces: tuple[Face, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricPose:
    """Pose of a rigid set of points in the camera's optical frame.

    Attributes
    ----------
    rotation : (3, 3) float64, from the points' frame to the optical frame
    position_m : (3,) float64, of the points' origin
    covariance : (6, 6) float64, of x, y, z (metres) and of small turns about the fixed x, y, z axes
        of the optical frame (radians), the order of geometry_msgs/PoseWithCovariance
    residual_px : root mean square distance between the points and their picture, pixels
    """

    rotation: np.ndarray
    position_m: np.ndarray
    covariance: np.ndarray
    residual_px: float
