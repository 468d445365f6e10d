"""The faces of one image in metres: poses, vertices and depths, each made when first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tddfa_ros.core.calibration import Camera, assumed_camera
from tddfa_ros.core.config import MetricConfig
from tddfa_ros.core.metric import MetricFaces
from tddfa_ros.core.metric_smooth import MetricSmoother
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.types import FrameResult, MetricPose


class MetricFrames:
    """Places the faces of a stream before its camera.

    Parameters
    ----------
    model : the face model of the fits
    config : settings
    """

    def __init__(self, model: MorphableModel, config: MetricConfig) -> None:
        self._faces = MetricFaces(model)
        self._smoother = MetricSmoother(config.pose_min_cutoff_hz, config.pose_beta)
        self._camera: Camera | None = None
        self.configure(config)

    def configure(self, config: MetricConfig) -> None:
        """Take over settings; filters go on, unless the head's size changes."""
        if config.head_width_m != self._faces.head_width_m:
            self._smoother.reset()
        self._faces.head_width_m = config.head_width_m
        self._smoother.min_cutoff_hz = config.pose_min_cutoff_hz
        self._smoother.beta = config.pose_beta

    def reset(self) -> None:
        """Forget all filters."""
        self._smoother.reset()

    def frame(
        self, result: FrameResult, camera: Camera | None, *, smooth: bool = True
    ) -> MetricFrame:
        """Describe the faces of an image.

        Parameters
        ----------
        result : of the pipeline
        camera : of that image; None if it is not calibrated
        smooth : whether the poses pass through the filters; results must come in order then
        """
        if smooth and (camera is None) != (self._camera is None):
            self._smoother.reset()
        if smooth:
            self._camera = camera
        return MetricFrame(result, camera, self._faces, self._smoother if smooth else None)


class MetricFrame:
    """The faces of one image in the camera's optical frame. From :meth:`MetricFrames.frame`.

    Without a calibration, they stand before :func:`~tddfa_ros.core.calibration.assumed_camera`:
    their sizes and shapes are right, their distances are not to be trusted.

    Attributes
    ----------
    result : of the pipeline
    calibrated : whether the camera is known
    """

    def __init__(
        self,
        result: FrameResult,
        camera: Camera | None,
        faces: MetricFaces,
        smoother: MetricSmoother | None,
    ) -> None:
        self.result = result
        self.calibrated = camera is not None
        self._camera = camera or assumed_camera(result.image_height, result.image_width)
        self._faces = faces
        self._smoother = smoother
        self._vertices: dict[int, np.ndarray] = {}

    @cached_property
    def placed(self) -> tuple[MetricPose | None, ...]:
        """Pose of each face, by the assumed camera if need be; None if its fit allows none."""
        return tuple(self._place(index) for index in range(len(self.result.faces)))

    @property
    def poses(self) -> tuple[MetricPose | None, ...]:
        """Metric pose of each face; None throughout if the camera is not calibrated."""
        return self.placed if self.calibrated else (None,) * len(self.result.faces)

    def vertices_m(self, index: int) -> np.ndarray | None:
        """(n, 3) float32 vertices of a face in the optical frame; None if it has no pose."""
        if index not in self._vertices:
            pose = self.placed[index]
            if pose is None:
                return None
            points = self._faces.vertices_m(self.result.faces[index].params)
            self._vertices[index] = _transformed(points, pose)
        return self._vertices[index]

    def landmarks_m(self, index: int) -> np.ndarray | None:
        """(68, 3) float32 landmarks of a face in the optical frame; None if it has no pose."""
        pose = self.placed[index]
        if pose is None:
            return None
        return _transformed(self._faces.landmarks_m(self.result.faces[index].params), pose)

    def _place(self, index: int) -> MetricPose | None:
        face = self.result.faces[index]
        if not np.isfinite(face.landmarks).all():
            return None
        pose = self._faces.pose(face, self._camera)
        if pose is None or self._smoother is None:
            return pose
        return self._smoother.smooth(face.id, self.result.stamp_ns, pose)


def _transformed(points: np.ndarray, pose: MetricPose) -> np.ndarray:
    return (points @ pose.rotation.T + pose.position_m).astype(np.float32)
