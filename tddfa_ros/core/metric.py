"""Metric poses of fitted faces: what the face model adds to :mod:`tddfa_ros.core.metric_pose`."""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.metric_pose import FitError, solve_metric_pose
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.rotation import rotation_from_quat
from tddfa_ros.core.types import Face, MetricPose, MorphableParams

NASION = 27
RIGHT_EAR, LEFT_EAR = 0, 16
# Adult heads differ in breadth by about 4 % (standard deviation; ANSUR II, bizygomatic breadth).
SIZE_UNCERTAINTY = 0.04
# Root mean squares of the embedded set over 1,000 synthetic people, all poses and occlusions: 4.5,
# 4.7 and 2.3 degrees about x, y and z, 2.4 and 2.1 % of the face's size in x and y, 4.2 % in size.
FIT_ERROR = FitError(turn_rad=float(np.radians(4.0)), shift_m=0.004, scale=0.042)
# Model axes to those of the face frame: x out of the face, y to the subject's left, z up.
_FACE_FROM_MODEL = (2, 0, 1)


class MetricFaces:
    """Places fitted faces before a calibrated camera, in metres.

    Parameters
    ----------
    model : the face model of the fits
    head_width_m : true breadth of the face between landmarks 0 and 16, at the ears; 0 takes the
        face model's own size
    """

    def __init__(self, model: MorphableModel, head_width_m: float = 0.0) -> None:
        self._model = model
        self.head_width_m = head_width_m

    def pose(self, face: Face, camera: Camera) -> MetricPose | None:
        """Pose of the face frame (origin at the sellion) in the camera's optical frame.

        Returns
        -------
        The pose, or None if the fit allows none.
        """
        return solve_metric_pose(
            self.landmarks_m(face.params),
            face.landmarks[:, :2],
            camera,
            rotation_from_quat(face.pose.quat_xyzw),
            size_uncertainty=0.0 if self.head_width_m else SIZE_UNCERTAINTY,
            fit_error=FIT_ERROR,
        )

    def landmarks_m(self, params: MorphableParams) -> np.ndarray:
        """(68, 3) float64 landmarks in the face frame, metres."""
        points = self._model.model_landmarks(params.shape, params.expression)
        return self._to_face_frame(points, params)

    def vertices_m(self, params: MorphableParams) -> np.ndarray:
        """(n, 3) float64 vertices in the face frame, metres."""
        points = self._model.model_vertices(params.shape, params.expression)
        return self._to_face_frame(points, params)

    def metres_per_unit(self, params: MorphableParams) -> float:
        """Return the metres in one model unit, for a head of that shape."""
        if not self.head_width_m:
            return self._model.face_model.metres_per_unit
        neutral = self._model.model_landmarks(params.shape, np.zeros_like(params.expression))
        return self.head_width_m / float(np.linalg.norm(neutral[LEFT_EAR] - neutral[RIGHT_EAR]))

    def _to_face_frame(self, points: np.ndarray, params: MorphableParams) -> np.ndarray:
        origin = self._model.model_sellion(params.shape, params.expression)
        if origin is None:
            origin = self._model.model_landmarks(params.shape, params.expression)[NASION]
        in_units = (points.astype(np.float64) - origin)[:, _FACE_FROM_MODEL]
        return in_units * self.metres_per_unit(params)
