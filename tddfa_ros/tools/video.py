"""Fit and track the faces in a video: an annotated mp4 and <stem>.jsonl, one line a frame.

Each picture of the mp4 is shown at its time in the source, also where its frame rate varies.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from tqdm import tqdm

from tddfa_ros.core import media, model_set
from tddfa_ros.core.atomic_file import replaced_input
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.config_arguments import add_config_arguments, config_from
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.interruption import Interruption
from tddfa_ros.core.outputs import OUTPUTS
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.recording import LinesWriter, VideoWriter
from tddfa_ros.core.results import frame_line
from tddfa_ros.core.types import FrameResult
from tddfa_ros.tools.outputs import Stage, add_output_arguments, as_bgr, wishes_from

EXAMPLES = """examples:
  python -m tddfa_ros video talk.mp4 --out results/talk.mp4
  python -m tddfa_ros video talk.mp4 --model-set tddfa_v2 --smooth none --out results/talk.mp4
  python -m tddfa_ros video talk.mp4 --overlay mesh,id --outputs depth,pncc \\
      --out results/talk.mp4

Ctrl-C ends early; what was processed by then is kept in both files. The pictures of a folder are
taken for those of one camera, one after the other; see the verb image for others.
"""

_MESH_OF_FRAME = re.compile(r"[0-9]{6,}(_[0-9]+)?\.(ply|obj|glb|stl)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="video, folder of pictures or bag to read")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.mp4",
        help="annotated video; the results go beside it as FILE.jsonl",
    )
    parser.add_argument(
        "--image-topic", default="", metavar="TOPIC", help="of a bag (default: a camera's first)"
    )
    add_output_arguments(parser)
    add_config_arguments(parser)


def output_path(out_path: Path, name: str) -> Path:
    """Where the output `name` beside `out_path` goes: a video, or a folder of meshes."""
    path = out_path.with_name(f"{out_path.stem}_{name}")
    return path if OUTPUTS[name].picture is None else path.with_name(f"{path.name}.mp4")


def lines_path(out_path: Path) -> Path:
    """Where the results of the annotated video `out_path` go."""
    return out_path.with_suffix(".jsonl")


class VideoSinks:
    """The files of a run; leaving the ``with`` block gives each its final name.

    Parameters
    ----------
    out_path : the annotated video; the results go beside it with suffix ``.jsonl``, pictures as
        videos ``<stem>_<name>.mp4``, meshes frame by frame into folders ``<stem>_<name>``
    rate_hz : frames a second of the source, if it states them
    stage : makes the scenes and knows what is wanted

    Raises
    ------
    MediaError
        One of the names is taken by what is no such file or folder, or a folder cannot be made.
    """

    def __init__(self, out_path: Path, rate_hz: float | None, stage: Stage) -> None:
        self._stage = stage
        self._videos: dict[str, VideoWriter] = {}
        self._mesh_folders: dict[str, Path] = {}
        with ExitStack() as stack:  # where one cannot be made, those before it leave nothing
            self.annotated = stack.enter_context(VideoWriter(out_path, rate_hz))
            self.lines = stack.enter_context(LinesWriter(lines_path(out_path)))
            for name in stage.wishes.names:
                path = output_path(out_path, name)
                if OUTPUTS[name].picture is None:
                    self._mesh_folders[name] = path
                else:
                    self._videos[name] = stack.enter_context(VideoWriter(path, rate_hz))
            for folder in self._mesh_folders.values():
                stack.enter_context(self._folder(folder))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files, and say what was written."""
        try:
            self._stack.close()
        finally:
            written = [w for w in (self.annotated, self.lines) if w.in_place]
            if written:
                files = ", ".join(str(w.path) for w in written)
                sys.stdout.write(f"{written[-1].count} frames -> {files}\n")

    @contextmanager
    def _folder(self, folder: Path) -> Iterator[None]:
        """Have a folder; one that is made here goes again if no frame is written."""
        is_new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(
                f"{folder}: cannot be made ({error.strerror}); choose another --out"
            ) from error
        try:
            yield
        finally:
            if is_new and not self.lines.count:
                with suppress(OSError):  # A mesh of a frame that failed may be in it.
                    folder.rmdir()

    def write(self, frame: media.MediaFrame, result: FrameResult) -> None:
        """Add one frame to all of them."""
        scene = self._stage.scene(frame.image_bgr, result)
        self.annotated.write(scene.overlay(self._stage.wishes.overlay), result.stamp_ns)
        for name, video in self._videos.items():
            video.write(as_bgr(OUTPUTS[name].picture(scene)), result.stamp_ns)
        for name, folder in self._mesh_folders.items():
            if result.frame_index == 0:
                _remove_meshes(folder)
            OUTPUTS[name].write(scene, folder / f"{result.frame_index:06d}{OUTPUTS[name].suffix}")
        self.lines.write(frame_line(result, frame.name))


def _remove_meshes(folder: Path) -> None:
    """Remove those of an earlier run, but no texture: a picture of that name may be anybody's."""
    try:
        for path in folder.iterdir():
            if _MESH_OF_FRAME.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise MediaError(
            f"{error.filename}: of an earlier run, cannot be removed ({error.strerror}); choose "
            "another --out"
        ) from error


def process_frames(
    pipeline: FacePipeline,
    frames: Iterable[media.MediaFrame],
    write: Callable[[media.MediaFrame, FrameResult], None],
) -> None:
    """Run a stream through a fresh pipeline; each result meets the frame that it belongs to.

    A smoother may answer some frames late. What it still holds when the stream ends,
    or breaks off, is written too.
    """
    waiting: dict[int, media.MediaFrame] = {}

    def deliver(results: Iterable[FrameResult]) -> None:
        for result in results:
            write(waiting.pop(result.frame_index), result)

    try:
        for frame in frames:
            result = pipeline.process(frame.image_bgr, frame.stamp_ns)
            waiting[result.frame_index] = frame
            deliver(pipeline.smooth(result))
    finally:
        deliver(pipeline.flush())


def _check_out(source: str, out_path: Path, names: Iterable[str]) -> None:
    """Raise :class:`MediaError` if the run would replace what it reads."""
    # Path.exists raises on names that are too long.
    if out_path.suffix.lower() != ".mp4" or not os.path.exists(source):  # noqa: PTH110
        return  # Nothing is written, as VideoWriter refuses the name, or no file can be lost.
    outputs = (output_path(out_path, name) for name in names)
    path = replaced_input((out_path, lines_path(out_path), *outputs), [source])
    if path is not None:
        raise MediaError(f"{path}: is or holds the input itself; choose another --out")


def run(args: argparse.Namespace) -> int:
    """Process the whole video; on Ctrl-C the files are closed and keep what was done."""
    config: PipelineConfig = config_from(args)
    wishes = wishes_from(args)
    _check_out(args.file, args.out, wishes.names)
    chosen = model_set.load(model_set.find(config.model_set))
    with ExitStack() as stack:
        stop = stack.enter_context(Interruption())
        source = stack.enter_context(
            media.open_media(args.file, topic=args.image_topic, stop=stop.event)
        )
        pipeline = stack.enter_context(closing(FacePipeline(chosen, config)))
        stage = Stage(pipeline, wishes)
        sinks = stack.enter_context(VideoSinks(args.out, source.fps, stage))
        progress = stack.enter_context(
            tqdm(total=source.frame_count, unit="frame", disable=None, leave=False)
        )
        process_frames(pipeline, _counted(stop.until_requested(source), progress), sinks.write)
    return 0


def _counted(frames: Iterable[media.MediaFrame], progress: tqdm) -> Iterator[media.MediaFrame]:
    for frame in frames:
        yield frame
        progress.update()
