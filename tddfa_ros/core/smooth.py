"""Smoothing of followed faces over time, on the stamps of their images.

What is smoothed is the fit itself: its camera in image space, its shape and its expression. A
smoothed face is therefore as complete as a raw one: its parameters rebuild its landmarks, pose and
every vertex. Raw results are left untouched.

- ``window``: mean over the frames before and after, as 3DDFA_V2 takes it of vertices; delayed.
- ``one-euro``: low-pass filters without delay whose cutoff rises with speed (Casiez, Roussel and
  Vogel, *1€ Filter*, 2012), one for the camera and one for the expression, so that a whole face
  moves as one body; the shape, which does not change, is averaged slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Protocol

import numpy as np

from tddfa_ros.core.camera import image_camera, params_with_image_camera
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.one_euro import (
    LONGEST_GAP_S,
    NS_PER_S,
    SPEED_CUTOFF_HZ,
    low_pass_gain,
    step_s,
)
from tddfa_ros.core.types import Face, FrameResult, HeadPose, MorphableParams

SHAPE_CUTOFF_HZ = 0.1
# Two cameras 50 degrees apart have a mean this much smaller than they are.
LEAST_AGREEMENT = 0.9
# In face sizes, between two images. Farther away the name is the same but not the face: the tracker
# put exchanged names right. Faces side by side are about one apart; a fast one moves by half.
FARTHEST_STEP = 0.75


class FaceGeometry(Protocol):
    """What smoothing asks of the face model; :class:`~tddfa_ros.core.morphable.MorphableModel`."""

    def landmarks(self, params: MorphableParams) -> np.ndarray:
        """(68, 3) float32, image space."""


class Smoother(Protocol):
    """A filter over the results of one stream."""

    def push(self, result: FrameResult) -> list[FrameResult]:
        """Take the next result; return those that are ready, oldest first."""

    def flush(self) -> list[FrameResult]:
        """Return what is still held back, at the end of a stream; the smoother begins anew."""

    def reset(self) -> None:
        """Forget everything, also what is held back."""


def make_smoother(
    config: PipelineConfig,
    model: FaceGeometry,
    head_pose: Callable[[MorphableParams], HeadPose],
) -> Smoother:
    """Smoother of the kind ``config.smoothing`` says.

    Parameters
    ----------
    config : settings
    model : face model of the fits
    head_pose : how the pose of a fit is found
    """
    geometry = _FitGeometry(model, head_pose)
    if config.smoothing == "window":
        return WindowSmoother(config.window_before, config.window_after, geometry)
    if config.smoothing == "one-euro":
        return OneEuroSmoother(config.one_euro_min_cutoff_hz, config.one_euro_beta, geometry)
    return NoSmoother()


@dataclass(frozen=True)
class Place:
    """Where a face is in its image: middle (2,) and size of its landmarks, pixels."""

    middle: np.ndarray
    size: float

    def can_be_next_to(self, other: Place) -> bool:
        """Whether one and the same face can be in both places in two images on end."""
        x, y = (self.middle - other.middle).tolist()
        return hypot(x, y) <= FARTHEST_STEP * min(self.size, other.size)


@dataclass(frozen=True)
class Fit:
    """A fit as it is smoothed: float64, the camera in image space.

    Attributes
    ----------
    camera : (3, 4), as of :func:`tddfa_ros.core.camera.image_camera`
    shape : (n_shape,)
    expression : (n_expression,)
    place : of the face as it was found, also where the rest is smoothed
    """

    camera: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    place: Place

    @property
    def is_finite(self) -> bool:
        """Whether all numbers are."""
        return all(np.isfinite(v).all() for v in (self.camera, self.shape, self.expression))


class _FitGeometry:
    """From faces to fits, from fits to smoothed faces, and between fits."""

    def __init__(
        self, model: FaceGeometry, head_pose: Callable[[MorphableParams], HeadPose]
    ) -> None:
        self._model = model
        self._head_pose = head_pose

    def fit(self, face: Face) -> Fit | None:
        """Fit of a face; None if it holds a number that is not finite."""
        params = face.params
        fit = Fit(
            image_camera(params),
            params.shape.astype(np.float64),
            params.expression.astype(np.float64),
            Place(face.landmarks[:, :2].mean(axis=0), _face_size(face.landmarks)),
        )
        return fit if fit.is_finite else None

    def smoothed(self, face: Face, fit: Fit) -> Face:
        """`face` with another fit, expressed in its own ROI."""
        params = replace(
            params_with_image_camera(face.params, fit.camera),
            shape=fit.shape.astype(np.float32),
            expression=fit.expression.astype(np.float32),
        )
        return replace(
            face,
            params=params,
            landmarks=self._model.landmarks(params),
            pose=self._head_pose(params),
        )

    def expression_shift(self, face: Face, expression: np.ndarray) -> np.ndarray:
        """How far the landmarks move if `face` takes another expression: (68, 2), pixels."""
        other = replace(face.params, expression=expression)
        return (self._model.landmarks(other) - face.landmarks)[:, :2]

    @staticmethod
    def blend_cameras(
        camera: np.ndarray, others: Sequence[np.ndarray], weights: Sequence[float]
    ) -> np.ndarray:
        """Weighted mean of `camera` and `others`, whose weights are given; the rest is `camera`'s.

        So every vertex is the mean of its places, to first order. A mean of cameras in very
        different directions would be no face; `camera` stays as it is then. Equal cameras give that
        camera, bit by bit.
        """
        blend = camera.copy()
        length = own = _length(camera)
        for other, weight in zip(others, weights, strict=True):
            blend += weight * (other - camera)
            length += weight * (_length(other) - own)
        return blend if _length(blend) > LEAST_AGREEMENT * length else camera


class NoSmoother:
    """Passes everything on as it is."""

    def push(self, result: FrameResult) -> list[FrameResult]:
        """Return the result itself."""
        return [result]

    def flush(self) -> list[FrameResult]:
        """Return nothing, as nothing is held back."""
        return []

    def reset(self) -> None:
        """Do nothing."""


class WindowSmoother:
    """Centred mean over frames; answers `after` frames late.

    Where a track begins or ends inside the window, its first or last fit stands in for the frames
    that lack it, also where its name goes over to another face; so do the stream's first and last
    frame at its ends. Time that leaps back or ahead ends the stream.

    Parameters
    ----------
    before, after : number of frames beside the present one
    geometry : of the fits
    """

    def __init__(self, before: int, after: int, geometry: _FitGeometry) -> None:
        self._before = before
        self._after = after
        self._geometry = geometry
        self._frames: deque[tuple[FrameResult, dict[str, Fit]]] = deque(maxlen=before + 1 + after)
        self._waiting = 0

    def push(self, result: FrameResult) -> list[FrameResult]:
        """Take the next result; return those that have their whole window."""
        ready = []
        if self._frames:
            elapsed_s = (result.stamp_ns - self._frames[-1][0].stamp_ns) / NS_PER_S
            if abs(elapsed_s) > LONGEST_GAP_S:
                ready = self.flush()
        fits = ((face.id, self._geometry.fit(face)) for face in result.faces)
        self._frames.append((result, {face_id: fit for face_id, fit in fits if fit is not None}))
        self._waiting += 1
        if self._waiting > self._after:
            ready.append(self._smooth_oldest_waiting())
        return ready

    def flush(self) -> list[FrameResult]:
        """Return the last results, whose windows the stream's end cuts off."""
        ready = []
        while self._waiting:
            ready.append(self._smooth_oldest_waiting())
        self.reset()
        return ready

    def reset(self) -> None:
        """Forget all frames."""
        self._frames.clear()
        self._waiting = 0

    def _smooth_oldest_waiting(self) -> FrameResult:
        frames = list(self._frames)
        at = len(frames) - self._waiting
        self._waiting -= 1
        result, fits = frames[at]
        earlier = [fits for _, fits in reversed(frames[max(0, at - self._before) : at])]
        later = [fits for _, fits in frames[at + 1 : at + 1 + self._after]]
        faces = []
        for face in result.faces:
            fit = fits.get(face.id)
            if fit is not None:
                others = [
                    *_continued(fit, face.id, earlier, self._before),
                    *_continued(fit, face.id, later, self._after),
                ]
                face = self._geometry.smoothed(face, self._mean(fit, others))
            faces.append(face)
        return replace(result, faces=tuple(faces))

    def _mean(self, fit: Fit, others: list[Fit]) -> Fit:
        weight = 1 / (1 + len(others))
        cameras = [other.camera for other in others]
        shape = weight * sum(other.shape - fit.shape for other in others)
        expression = weight * sum(other.expression - fit.expression for other in others)
        return replace(
            fit,
            camera=self._geometry.blend_cameras(fit.camera, cameras, [weight] * len(others)),
            shape=fit.shape + shape,
            expression=fit.expression + expression,
        )


@dataclass(frozen=True)
class _OneEuroState:
    """Of one face: the last raw values, the filtered ones, and the filtered velocities."""

    stamp_ns: int
    frames: int
    raw_landmarks: np.ndarray
    raw_params: MorphableParams
    fit: Fit
    velocity: np.ndarray
    expression_velocity: np.ndarray


class OneEuroSmoother:
    """One Euro filters per face, without delay.

    They begin anew after a gap, a leap back in time, and where a name goes over to another face.

    Parameters
    ----------
    min_cutoff_hz : cutoff of a face at rest, hertz
    beta : hertz of cutoff added per face size a second
    geometry : of the fits
    """

    def __init__(self, min_cutoff_hz: float, beta: float, geometry: _FitGeometry) -> None:
        self.min_cutoff_hz = min_cutoff_hz
        self.beta = beta
        self._geometry = geometry
        self._states: dict[str, _OneEuroState] = {}

    def push(self, result: FrameResult) -> list[FrameResult]:
        """Return the result with its faces smoothed."""
        self._states = {
            face_id: state
            for face_id, state in self._states.items()
            if abs(result.stamp_ns - state.stamp_ns) <= LONGEST_GAP_S * NS_PER_S
        }
        faces = [self._smooth(face, result.stamp_ns) for face in result.faces]
        return [replace(result, faces=tuple(faces))]

    def flush(self) -> list[FrameResult]:
        """Return nothing, as nothing is held back; forget all faces."""
        self.reset()
        return []

    def reset(self) -> None:
        """Forget all faces."""
        self._states.clear()

    def _smooth(self, face: Face, stamp_ns: int) -> Face:
        fit = self._geometry.fit(face)
        if fit is None:
            self._states.pop(face.id, None)
            return face
        state = self._states.get(face.id)
        if state is None or not fit.place.can_be_next_to(state.fit.place):
            still = np.zeros((len(face.landmarks), 2))
            self._states[face.id] = _OneEuroState(
                stamp_ns, 1, face.landmarks, face.params, fit, still, still
            )
            return face
        state = self._advance(state, face, fit, stamp_ns)
        self._states[face.id] = state
        return self._geometry.smoothed(face, state.fit)

    def _advance(self, old: _OneEuroState, face: Face, fit: Fit, stamp_ns: int) -> _OneEuroState:
        dt = step_s(old.stamp_ns, stamp_ns)
        per_size = 1 / (dt * fit.place.size)
        speed_gain = low_pass_gain(SPEED_CUTOFF_HZ, dt)
        moved = (face.landmarks - old.raw_landmarks)[:, :2] * per_size
        velocity = old.velocity + speed_gain * (moved - old.velocity)
        shift = self._geometry.expression_shift(face, old.raw_params.expression) * -per_size
        expression_velocity = old.expression_velocity + speed_gain * (
            shift - old.expression_velocity
        )
        # The face as a whole goes by its mean motion, the expression by its liveliest landmark.
        camera_gain = low_pass_gain(self._cutoff_hz(sqrt((velocity**2).sum(axis=1).mean())), dt)
        expression_gain = low_pass_gain(
            self._cutoff_hz(sqrt((expression_velocity**2).sum(axis=1).max())), dt
        )
        filtered = replace(
            fit,
            camera=self._geometry.blend_cameras(fit.camera, [old.fit.camera], [1 - camera_gain]),
            shape=self._shape(old, face, fit, dt),
            expression=old.fit.expression + expression_gain * (fit.expression - old.fit.expression),
        )
        return _OneEuroState(
            stamp_ns,
            old.frames + 1,
            face.landmarks,
            face.params,
            filtered,
            velocity,
            expression_velocity,
        )

    @staticmethod
    def _shape(old: _OneEuroState, face: Face, fit: Fit, dt: float) -> np.ndarray:
        # The same twice over: it is held, and its dense sums with it.
        if np.array_equal(face.params.shape, old.raw_params.shape):
            return fit.shape
        # The mean of all frames at first, of the last seconds' later.
        gain = max(low_pass_gain(SHAPE_CUTOFF_HZ, dt), 1 / (old.frames + 1))
        return old.fit.shape + gain * (fit.shape - old.fit.shape)

    def _cutoff_hz(self, speed: float) -> float:
        return self.min_cutoff_hz + self.beta * speed


def _continued(fit: Fit, face_id: str, frames: Iterable[dict[str, Fit]], count: int) -> list[Fit]:
    """`count` fits of a face going away from `fit`; where it is no more, the last one repeats."""
    found = []
    for fits in frames:
        following = fits.get(face_id)
        if following is None or not following.place.can_be_next_to(fit.place):
            break
        fit = following
        found.append(fit)
    return found + [fit] * (count - len(found))


def _length(camera: np.ndarray) -> float:
    linear = camera[:, :3].ravel()
    return sqrt(linear @ linear)


def _face_size(landmarks: np.ndarray) -> float:
    """Geometric mean of width and height, at least one pixel."""
    width, height = np.ptp(landmarks[:, :2], axis=0).tolist()
    return max(1.0, sqrt(width * height))
