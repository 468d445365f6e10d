"""Play media through the media source and the face node, and record what they publish.

Leaves in the output folder annotated.mp4, faces.jsonl, summary.json, the bag bag/ (MCAP: images and
/faces), face.glb (the last image's face with its texture) and logs/, and prints frames, faces,
rate, drops and latency. Without --input it plays a clip made from a photograph of an astronaut.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import rclpy

from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core import media
from tddfa_ros.core.atomic_file import replaced_input, replacing
from tddfa_ros.core.config_arguments import above_zero, names_among
from tddfa_ros.core.errors import ExportError, MediaError, TddfaError
from tddfa_ros.core.interruption import Interruption
from tddfa_ros.core.outputs import DEFAULT_OVERLAY, OVERLAY_PARTS
from tddfa_ros.core.recording import VideoWriter
from tddfa_ros.core.sample_media import CLIP_RATE_HZ, astronaut_clip
from tddfa_ros.nodes.export import ask
from tddfa_ros.nodes.recorder import Recorder, Recording
from tddfa_ros.nodes.session import CompanyError, Session, find_model_set, say

EXAMPLES = """examples:
  python -m tddfa_ros demo
  python -m tddfa_ros demo --input talk.mp4 --model-set tddfa_v2
  python -m tddfa_ros demo --input 0 --duration 10      (the first webcam, ten seconds)

Ctrl-C ends early; everything recorded by then is kept.
"""

QUIET_S = 1.5
"""After the last image, silence of this length means that nothing more will come."""
ANSWERED_QUIET_S = 0.3
"""As much where everything that has come is answered."""

FIRST_IMAGE_TIMEOUT_S = 30.0
MESH_TIMEOUT_S = 5.0
SUMMARY_NAME = "summary.json"
MESH_NAME = "face.glb"
LOGS_NAME = "logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "--input",
        default="",
        metavar="SOURCE",
        help="video, image, folder of images, bag or webcam number (default: the astronaut)",
    )
    parser.add_argument(
        "--image-topic", default="", metavar="TOPIC", help="of a bag (default: a camera's first)"
    )
    parser.add_argument(
        "--model-set", default="", metavar="SET", help="folder or name of the model set"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="folder for the recordings (default %(default)s)",
    )
    parser.add_argument(
        "--duration",
        type=above_zero(float),
        metavar="SECONDS",
        help="end so long after the first image (default: when the media end; a webcam's never do)",
    )
    parser.add_argument(
        "--overlay",
        type=names_among(OVERLAY_PARTS, least=1),
        default=DEFAULT_OVERLAY,
        metavar="PARTS",
        help="what the annotated video shows, separated by commas, drawn in that order: "
        f"{', '.join(OVERLAY_PARTS)} (default {','.join(DEFAULT_OVERLAY)})",
    )
    parser.add_argument(
        "--frame-policy",
        choices=("latest", "every"),
        default="latest",
        help="latest drops frames that come too fast, every keeps all (default %(default)s)",
    )


def astronaut_video(path: Path) -> Path:
    """Write the clip of the astronaut to `path`."""
    with VideoWriter(path, CLIP_RATE_HZ) as writer:
        for image_bgr in astronaut_clip():
            writer.write(image_bgr)
    return path


def _input_of(args: argparse.Namespace) -> tuple[str, float | None]:
    """Return the source and its rate, or None; a source that cannot be read is an error at once."""
    source = args.input or str(astronaut_video(args.out / "astronaut.mp4"))
    if media.is_camera(source):
        return source, None
    with media.open_media(source, topic=args.image_topic) as opened:
        return str(Path(source).resolve()), opened.fps


def _refuse_own_files(source: str, recording: Recording, out: Path) -> None:
    """Raise :class:`MediaError` if the run would replace what it plays."""
    if media.is_camera(source):
        return
    recorded = (file.path for file in (recording.video, recording.lines, recording.bag))
    path = replaced_input(
        (*recorded, out / SUMMARY_NAME, out / MESH_NAME, out / LOGS_NAME), [source]
    )
    if path is not None:
        raise MediaError(
            f"{path.resolve()}: this run would replace it, but it is or holds the input itself; "
            "choose another --out (with make: OUT=...)"
        )


def run(args: argparse.Namespace) -> int:
    """Play, record, and report."""
    with ExitStack() as stack:
        stop = stack.enter_context(Interruption())
        # Before all: PyAV loses what a signal raises while it writes the clip.
        chosen = find_model_set(args.model_set)
        say(f"model set  {chosen}")
        source, rate_hz = _input_of(args)
        say(f"input      {source}")
        face_parameters = {
            "model_set": str(chosen),
            "frame_policy": args.frame_policy,
            "overlay": ",".join(args.overlay),
            "export_dir": str(args.out.resolve()),
        }
        media_parameters = {"input": source, "loop": False, "bag_topic": args.image_topic}
        recording = Recording(args.out, rate_hz)
        stack.callback(_report, recording, args.out)
        stack.enter_context(recording)
        _refuse_own_files(source, recording, args.out)
        stack.enter_context(_discarding(recording))
        session = stack.enter_context(
            Session(
                lambda: Recorder(recording),
                args.out / LOGS_NAME,
                face_parameters,
                media_parameters,
                stop,
            )
        )
        mesh_client = stack.enter_context(_MeshClient(session))
        say("playing    (Ctrl-C ends)")
        _play(session, recording, stop, args.duration)
        if not stop.requested:
            _check_heard(session, recording)
        if recording.statistics.processed_count:
            mesh_client.export(args.out / MESH_NAME)
    return 0


@contextmanager
def _discarding(recording: Recording) -> Iterator[None]:
    """Throw away what a refused run has heard: it may be the other publisher's."""
    try:
        yield
    except CompanyError:
        recording.discard()
        raise


def _play(
    session: Session, recording: Recording, stop: Interruption, duration_s: float | None
) -> None:
    """Listen until the media have ended and all is quiet, or the time is up."""
    started_s = began_s = time.monotonic()
    heard_count, heard_s = 0, started_s
    while not stop.requested:
        session.spin_once()
        now_s = time.monotonic()
        if recording.heard_count != heard_count:
            heard_count, heard_s = recording.heard_count, now_s
        session.face_node.check()
        session.media_source.check(may_end=True)
        ended = not session.media_source.running
        quiet_s = ANSWERED_QUIET_S if recording.all_answered else QUIET_S
        if ended and now_s - heard_s > quiet_s:
            return
        if not recording.statistics.image_count:
            began_s = now_s  # the duration counts from the first image
            if now_s - started_s > FIRST_IMAGE_TIMEOUT_S:
                return
        elif duration_s is not None and now_s - began_s > duration_s:
            return


class _MeshClient:
    """Asks a session's face node for a mesh.

    Made before anything is played: until both sides know of each other may take seconds.
    """

    def __init__(self, session: Session) -> None:
        self._node = rclpy.create_node("mesh_export_client")
        namespace = session.listener.get_namespace().rstrip("/")
        service = f"{namespace}/{session.face_node.name}/export_mesh"
        self._client = self._node.create_client(ExportMesh, service)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Destroy the node."""
        self._node.destroy_node()

    def export(self, path: Path) -> None:
        """Have the face of the last image written; an earlier run's mesh goes."""
        path.unlink(missing_ok=True)
        request = ExportMesh.Request(format=path.suffix[1:], texture=True, file_name=path.name)
        try:
            ask(self._node, self._client, request, MESH_TIMEOUT_S)
            say(f"mesh     {path}")
        except ExportError as error:
            say(f"mesh     none: {error}")


def _check_heard(session: Session, recording: Recording) -> None:
    for child, count, what in (
        (session.media_source, recording.statistics.image_count, "image"),
        (session.face_node, recording.statistics.processed_count, "answer to any image"),
    ):
        if not count:
            raise TddfaError(
                f"no {what} came from the {child.name}. It said last:\n{child.log_tail()}"
            )


def _report(recording: Recording, out: Path) -> None:
    """Say what the run amounted to, after its files were closed."""
    if recording.discarded or not recording.statistics.image_count:
        return
    with replacing(out / SUMMARY_NAME) as temporary:
        temporary.write_text(json.dumps(recording.statistics.as_dict(), indent=1) + "\n")
    for line in recording.statistics.lines():
        say(line)
    written = (recording.video, recording.lines, recording.bag)
    say("written  " + ", ".join(str(file.path) for file in written if file.in_place))
