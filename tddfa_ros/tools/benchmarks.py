"""The table of benchmarks: each stage with what it must reach and what the public code takes.

Targets and reference figures are medians on two cores of a 2.5 GHz Xeon, 640x480, one face of about
120x190 pixels. The reference is 3DDFA_V2 (cleardusk), its ONNX path.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.detect import Detector
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.mesh_io import write_mesh
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.outputs import OUTPUTS
from tddfa_ros.core.outputs import Scene as OutputScene
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.regress import Regressor
from tddfa_ros.core.render import RenderedFrame, Renderer
from tddfa_ros.core.sample_media import astronaut_clip, astronaut_view
from tddfa_ros.core.types import Face

PICTURE_SIZE_WH = (640, 480)
LARGE_SIZE_WH = (1920, 1080)
MANY_FACES = 10
CROWDS = (1, 2, 5, 10)
FOLLOWING = "crowd: follow {}"
CROWD_SCALE = 0.85
FACE_SCALE = 1.45
CLIP_FRAMES = 60
FRAME_NS = 33_333_333


class NotMeasurableError(TddfaError):
    """A model set does not do what a stage is to measure."""


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
        self._temporary: TemporaryDirectory | None = None

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

    @cached_property
    def renderer(self) -> Renderer:
        """Renderer of the model set."""
        return Renderer(self.model_set.face_model)

    @cached_property
    def vertices(self) -> np.ndarray:
        """(n, 3) float32: the face in the picture."""
        return self.model.vertices(self.face.params)

    @cached_property
    def folder(self) -> Path:
        """For files that are written and thrown away; removed together with the scene."""
        self._temporary = TemporaryDirectory(prefix="tddfa_ros_bench_")
        return Path(self._temporary.name)

    def pipeline(self) -> FacePipeline:
        """Make a fresh pipeline, closed together with the scene."""
        self._open.append(FacePipeline(self.model_set, self.config))
        return self._open[-1]

    def close(self) -> None:
        """End all pipelines and remove what was written."""
        for pipeline in self._open:
            pipeline.close()
        if self._temporary is not None:
            self._temporary.cleanup()


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


def _regression(*, mirrored: bool) -> Callable[[Scene], Callable[[], object]]:
    def make(scene: Scene) -> Callable[[], object]:
        regressor = Regressor(scene.model_set, threads=scene.config.regressor_threads)
        rois = scene.face.params.roi_xyxy[None]
        return lambda: regressor.regress(scene.picture_bgr, rois, mirrored=mirrored)

    return make


def _landmarks(scene: Scene) -> Callable[[], object]:
    return lambda: scene.model.landmarks(scene.face.params)


def _dense(scene: Scene) -> Callable[[], object]:
    params = scene.face.params
    return lambda: scene.model.vertices(params)


def _dense_held(scene: Scene) -> Callable[[], object]:
    params = scene.face.params
    held = scene.model.hold_shape(params.shape)
    return lambda: scene.model.vertices(params, held=held)


def _rendering(
    draw: Callable[[RenderedFrame], object],
    *,
    faces: int = 1,
    size_wh: tuple[int, int] = PICTURE_SIZE_WH,
    further: bool = False,
) -> Callable[[Scene], Callable[[], object]]:
    """Draw a frame anew at each call, or a further picture of one that is drawn already.

    The frame has `faces` copies of the face, one beside and over the other, whose size keeps its
    proportion to the frame's height.
    """

    def make(scene: Scene) -> Callable[[], object]:
        picture_bgr = cv2.resize(scene.picture_bgr, size_wh)
        scale = np.float32(size_wh[1] / PICTURE_SIZE_WH[1])
        meshes = [
            scale * (scene.vertices + np.float32([22.0 * (k - faces // 2), 0.0, 0.0]))
            for k in range(faces)
        ]
        if not further:
            return lambda: draw(scene.renderer.frame(picture_bgr, meshes))
        # A renderer of its own, which keeps the pass while others draw other frames.
        frame = Renderer(scene.model_set.face_model).frame(picture_bgr, meshes)
        frame.overlay()
        return lambda: draw(frame)

    return make


def _each_face(
    draw: Callable[[RenderedFrame, int], object],
) -> Callable[[RenderedFrame], object]:
    return lambda frame: [draw(frame, face) for face in range(len(frame.vertices))]


def _kernels() -> Iterator[Benchmark]:
    """Each kernel for one and ten faces in a small and a large picture."""
    kernels: dict[str, tuple[Callable[[RenderedFrame], object], bool]] = {
        "visibility pass": (RenderedFrame.face_index, False),
        "pass, vertex normals, visible vertices": (_each_face(RenderedFrame.seen), False),
        "light and blend": (_overlay, True),
        "interpolation": (RenderedFrame.pncc, True),
        "bilinear sampling": (_each_face(RenderedFrame.vertex_colors_bgr), True),
    }
    for (name, (draw, further)), size_wh, faces in itertools.product(
        kernels.items(), (PICTURE_SIZE_WH, LARGE_SIZE_WH), (1, MANY_FACES)
    ):
        about = f"kernel: {name}, {faces} face{'s' * (faces > 1)}, {size_wh[0]}x{size_wh[1]}"
        make = _rendering(draw, faces=faces, size_wh=size_wh, further=further)
        yield Benchmark(about, None, None, make)


def _overlay(frame: RenderedFrame) -> np.ndarray:
    """Blend into the image in place, as a loop that owns its image does."""
    return frame.overlay(frame.image_bgr)


def _five_pictures(frame: RenderedFrame) -> None:
    for draw in (frame.overlay, frame.depth_view, frame.pncc, frame.normals, frame.uv):
        draw()


def _export(output: str) -> Callable[[Scene], Callable[[], object]]:
    def make(scene: Scene) -> Callable[[], object]:
        view = OutputScene(
            scene.picture_bgr, [scene.face], scene.renderer, scene.model, texture_size=256
        )
        mesh = OUTPUTS[output].mesh(view, 0)
        path = scene.folder / f"face{OUTPUTS[output].suffix}"
        return lambda: write_mesh(path, mesh)

    return make


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


def _tracking_overlay(scene: Scene) -> Callable[[], object]:
    pipeline = scene.pipeline()
    frames = enumerate(itertools.cycle(scene.clip_bgr))

    def step() -> None:
        index, image_bgr = next(frames)
        faces = pipeline.process(image_bgr, index * FRAME_NS).faces
        scene.renderer.frame(image_bgr, pipeline.vertices_of(faces)).overlay()

    return step


def _crowd(count: int) -> list[np.ndarray]:
    """Frames in which so many astronauts in a grid sway a little, forth and back."""
    columns, rows = 5, 2
    cell_wh = (PICTURE_SIZE_WH[0] // columns, PICTURE_SIZE_WH[1] // rows)
    forth = []
    for frame in range(CLIP_FRAMES // 2):
        picture = np.full((*PICTURE_SIZE_WH[::-1], 3), 90, np.uint8)
        for k in range(count):
            face_xy = (cell_wh[0] / 2 + 0.4 * frame, cell_wh[1] * 0.45 + 0.2 * frame)
            cell = astronaut_view(CROWD_SCALE, 0.0, face_xy, cell_wh)
            x, y = k % columns * cell_wh[0], k // columns * cell_wh[1]
            picture[y : y + cell_wh[1], x : x + cell_wh[0]] = cell
        forth.append(picture)
    return forth + forth[::-1]


def _following(count: int) -> Callable[[Scene], Callable[[], object]]:
    """Follow so many faces; detection runs beside it at its usual rate."""

    def make(scene: Scene) -> Callable[[], object]:
        pipeline = scene.pipeline()
        clip = _crowd(count)
        frames = enumerate(itertools.cycle(clip))
        found = 0
        for index, image_bgr in itertools.islice(frames, CLIP_FRAMES):
            found = len(pipeline.process(image_bgr, index * FRAME_NS).faces)
        if found != count:
            raise NotMeasurableError(
                f"model set {scene.model_set.name}: follows {found} of {count} faces, which "
                "is nothing to compare"
            )

        def step() -> None:
            index, image_bgr = next(frames)
            pipeline.process(image_bgr, index * FRAME_NS)

        return step

    return make


BENCHMARKS = (
    Benchmark("detection", 6.5, 18.8, _detection),
    Benchmark("regression, crop to parameters", 0.95, 1.01, _regression(mirrored=False)),
    Benchmark("regression, with its mirror image", None, None, _regression(mirrored=True)),
    Benchmark("68 landmarks", None, None, _landmarks),
    Benchmark("dense vertices", 0.95, 1.57, _dense),
    Benchmark("dense vertices, shape held", 0.4, 1.57, _dense_held),
    Benchmark("video loop: track", None, None, _tracking_only),
    Benchmark("video loop: track + dense", 2.0, 3.98, _tracking_dense),
    Benchmark("video loop: track + dense + overlay", 3.5, 13.45, _tracking_overlay),
    *(Benchmark(FOLLOWING.format(n), None, None, _following(n)) for n in CROWDS),
    Benchmark("overlay", 1.2, 5.75, _rendering(_overlay)),
    Benchmark("depth", 1.2, 8.7, _rendering(RenderedFrame.depth_view)),
    Benchmark("PNCC", 1.2, 4.64, _rendering(RenderedFrame.pncc)),
    Benchmark("normals", None, None, _rendering(RenderedFrame.normals)),
    Benchmark("a further depth", 0.5, None, _rendering(RenderedFrame.depth_view, further=True)),
    Benchmark("a further PNCC", 0.5, None, _rendering(RenderedFrame.pncc, further=True)),
    Benchmark("a further normals", 0.5, None, _rendering(RenderedFrame.normals, further=True)),
    Benchmark("a further uv", 0.5, None, _rendering(RenderedFrame.uv, further=True)),
    Benchmark("UV texture 256", 2.0, 12.6, _rendering(lambda frame: frame.texture(0, 256))),
    Benchmark("overlay, depth, PNCC, normals, uv", 3.2, None, _rendering(_five_pictures)),
    Benchmark("ply export", 15.0, 318.0, _export("ply")),
    Benchmark("obj export", 100.0, 412.0, _export("obj")),
    *_kernels(),
)
"""The rows in their order. 3.98 ms is a mature C++ tracker of 468 points. The reference exports
without texture; of its two overlays the faster is named."""
