"""The table of benchmarks: each stage with what it must reach and what the public code takes.

Targets and reference figures are medians on two cores of a 2.5 GHz Xeon, 640x480, one face of about
120x190 pixels. The reference is 3DDFA_V2 (cleardusk), its ONNX path.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.detect import Detector
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.regress import Regressor
from tddfa_ros.core.sample_media import astronaut_clip, astronaut_view
from tddfa_ros.core.types import Face

PICTURE_SIZE_WH = (640, 480)
FACE_SCALE = 1.45
CLIP_FRAMES = 60
FRAME_NS = 33_333_333


class Scene:
    """What the benchmarks work on: one model set, one picture with one face, one clip.

    Parameters
    ----------
    model_set : networks and face model

    Raises
    ------
    TddfaError
        The model set finds no face in the astronaut's picture.
    """

    def __init__(self, model_set: ModelSet) -> None:
        self.model_set = model_set
        self.config = PipelineConfig()
        self.model = MorphableModel(model_set.face_model)
        self._open: list[FacePipeline] = []

    @cached_property
    def picture_bgr(self) -> np.ndarray:
        """(480, 640, 3) uint8: the astronaut."""
        return astronaut_view(FACE_SCALE, 0.0, (320.0, 220.0), PICTURE_SIZE_WH)

    @cached_property
    def clip_bgr(self) -> list[np.ndarray]:
        """Frames in which she moves, forth and back, so that a loop has no jump."""
        forth = list(itertools.islice(astronaut_clip(), CLIP_FRAMES // 2))
        return forth + forth[::-1]

    @cached_property
    def face(self) -> Face:
        """The face in the picture."""
        faces = self.pipeline().process_still(self.picture_bgr).faces
        if not faces:
            raise TddfaError(
                f"model set {self.model_set.name}: finds no face in the astronaut's picture, so "
                "there is nothing to measure; try another set"
            )
        return faces[0]

    def pipeline(self) -> FacePipeline:
        """Make a fresh pipeline, closed together with the scene."""
        self._open.append(FacePipeline(self.model_set, self.config))
        return self._open[-1]

    def close(self) -> None:
        """End all pipelines."""
        for pipeline in self._open:
            pipeline.close()


@dataclass(frozen=True)
class Benchmark:
    """One row.

    Attributes
    ----------
    name : the stage
    target_ms : what it must not exceed, or None
    reference_ms : what the public implementation takes, or None
    make : prepares the scene and returns what is timed, one call a sample
    """

    name: str
    target_ms: float | None
    reference_ms: float | None
    make: Callable[[Scene], Callable[[], object]]


def _detection(scene: Scene) -> Callable[[], object]:
    detector = Detector(scene.model_set, threads=scene.config.detector_threads)
    return lambda: detector.detect(scene.picture_bgr)


def _regression(scene: Scene) -> Callable[[], object]:
    regressor = Regressor(scene.model_set, threads=scene.config.regressor_threads)
    rois = scene.face.params.roi_xyxy[None]
    return lambda: regressor.regress(scene.picture_bgr, rois)


def _landmarks(scene: Scene) -> Callable[[], object]:
    return lambda: scene.model.landmarks(scene.face.params)


def _dense(scene: Scene) -> Callable[[], object]:
    params = scene.face.params
    return lambda: scene.model.vertices(params)


def _dense_held(scene: Scene) -> Callable[[], object]:
    params = scene.face.params
    held = scene.model.hold_shape(params.shape)
    return lambda: scene.model.vertices(params, held=held)


def _tracking(scene: Scene, also: Callable[[FacePipeline, Face], object]) -> Callable[[], object]:
    """Follow the face through the clip; detection runs beside it at its usual rate."""
    pipeline = scene.pipeline()
    frames = enumerate(itertools.cycle(scene.clip_bgr))

    def step() -> None:
        index, image_bgr = next(frames)
        for face in pipeline.process(image_bgr, index * FRAME_NS).faces:
            also(pipeline, face)

    return step


def _tracking_only(scene: Scene) -> Callable[[], object]:
    return _tracking(scene, lambda pipeline, face: None)


def _tracking_dense(scene: Scene) -> Callable[[], object]:
    return _tracking(scene, lambda pipeline, face: pipeline.vertices(face))


BENCHMARKS = (
    Benchmark("detection", 6.5, 18.8, _detection),
    Benchmark("regression, crop to parameters", 0.95, 1.01, _regression),
    Benchmark("68 landmarks", None, None, _landmarks),
    Benchmark("dense vertices", 0.95, 1.57, _dense),
    Benchmark("dense vertices, shape held", 0.4, 1.57, _dense_held),
    Benchmark("video loop: track", None, None, _tracking_only),
    Benchmark("video loop: track + dense", 2.0, 3.98, _tracking_dense),
)
"""The rows in their order. 3.98 ms is a mature C++ tracker of 468 points."""
