"""Add the faces in its images to a rosbag2 recording, offline, as fast as the machine allows.

Every message of IN is kept byte for byte, with its topic, type, quality of service and time. For
each image topic NAMESPACE/image come NAMESPACE/faces and what else --topics names, stamped and
framed as the image, and timed as received with it; with metric poses where the topic's
camera_info beside it is calibrated. Image topics that share a namespace get
NAMESPACE/image/faces each instead, and so does one whose NAMESPACE/faces is another's. An
interrupted run (Ctrl-C, kill, full disk, power) goes on when the command is repeated, and gives the
messages that it would have given uninterrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import re
import shutil
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tddfa_ros import __version__
from tddfa_ros.core import model_set
from tddfa_ros.core.atomic_file import replaced_input
from tddfa_ros.core.bag import BagMessage, BagReader, namespace_of
from tddfa_ros.core.bag_copy import WRITE_ERRORS, BagCopy, check_out
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.config_arguments import add_config_arguments, config_from, names_among, names_in
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.folder_lock import locked
from tddfa_ros.core.interruption import Interruption
from tddfa_ros.core.network_journal import NetworkJournal
from tddfa_ros.nodes.bag_calibration import BagCalibration
from tddfa_ros.nodes.bag_writer import OFFERED_QOS
from tddfa_ros.nodes.face_bytes import typestore_with_faces
from tddfa_ros.nodes.topic_faces import OUTPUTS, NewMessage, TopicFaces, decode

EXAMPLES = """examples:
  python -m tddfa_ros bag drive --out drive_faces.mcap
  python -m tddfa_ros bag drive.db3 --out faces.mcap --topics faces,faces/raw --smooth none
  python -m tddfa_ros bag drive --out faces --image-topics /left/image_raw,/right/image_raw

--out NAME.mcap or NAME.db3 writes one file, a NAME without suffix a bag's folder.
"""

AHEAD = 6
"""Messages that are read, and decoded, ahead of the one that is processed."""

_OF_UNFINISHED_RUN = re.compile(r"bag|\d+\.journal")

_log = logging.getLogger(__name__)
_Decoded = Callable[[], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("bag", type=Path, metavar="IN", help="bag folder, .mcap or .db3 file")
    parser.add_argument("--out", type=Path, required=True, help="the bag to write; see below")
    parser.add_argument(
        "--topics",
        type=names_among(OUTPUTS, least=1),
        default=("faces",),
        metavar="NAMES",
        help=f"what is added, separated by commas: {', '.join(OUTPUTS)} (default faces)",
    )
    parser.add_argument(
        "--image-topics",
        type=names_in,
        default=(),
        metavar="TOPICS",
        help="image topics to process, separated by commas (default: all, but for depth images, "
        "what lies below a topic of faces, and the compressed twin of a raw topic)",
    )
    parser.add_argument(
        "--name",
        type=_topic_name,
        default="faces",
        help="name of the added topics in the place of 'faces' (default faces)",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew, whatever an unfinished run has done"
    )
    add_config_arguments(parser)
    add_config_arguments(parser, config_class=MetricConfig, title="settings of metric poses")


def _topic_name(text: str) -> str:
    """Check a relative ROS name."""
    token = "[A-Za-z_][A-Za-z0-9_]*"
    if "__" in text or not re.fullmatch(f"{token}(/{token})*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a topic: letters, digits and single underscores, parted by "
            "slashes, no part beginning with a digit"
        )
    return text


def chosen_image_topics(bag: BagReader, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Image topics to process: those wanted, else all that show a camera's picture.

    Raises
    ------
    MediaError
        A wanted topic has no images, or there is none to choose.
    """
    counts = {topic: count for topic, count in bag.image_counts().items() if count}
    listed = ", ".join(sorted(counts)) or "none"
    for topic in wanted:
        if topic not in counts:
            raise MediaError(f"{bag.path}: no images on {topic!r}; topics with images: {listed}")
    chosen = wanted or tuple(bag.camera_topics())
    if not chosen:
        raise MediaError(f"{bag.path}: no camera images; topics with images: {listed}")
    return chosen


def output_topics(
    image_topics: Iterable[str], outputs: Iterable[str], name: str
) -> dict[str, dict[str, str]]:
    """Topic in the bag by image topic and by name of the output.

    Raises
    ------
    MediaError
        Two of them would be the same.
    """
    image_topics, outputs = list(image_topics), list(outputs)
    shares = Counter(namespace_of(topic) for topic in image_topics)
    places: dict[str, str] = {}
    # A namespace is shorter than the topics in it: what is below an image topic comes after that.
    for topic in sorted(image_topics, key=len):
        space = namespace_of(topic)
        is_free = shares[space] == 1 and space not in places.values()
        places[topic] = space if is_free else topic
    topics = {
        topic: {
            output: f"{places[topic]}/{name}{output.removeprefix('faces')}" for output in outputs
        }
        for topic in image_topics
    }
    counts = Counter(added for named in topics.values() for added in named.values())
    if twice := [added for added, count in counts.items() if count > 1]:
        raise MediaError(
            f"two topics of faces would be {twice[0]}; choose another name than --name {name}, or "
            "fewer image topics (--image-topics)"
        )
    return topics


def _require_free(bag: BagReader, topics: Iterable[str], name: str) -> None:
    taken = sorted({connection.topic for connection in bag.connections}.intersection(topics))
    if taken:
        raise MediaError(
            f"{bag.path}: has a topic {taken[0]} already; choose another name than "
            f"--name {name}, say --name {name}_again"
        )


def _check_replaced(out: Path, added: set[str]) -> None:
    """Raise :class:`MediaError` if `out` is anything but what such a run has written before."""
    if not out.exists():
        return
    try:
        before = BagReader(out)
    except MediaError as error:
        raise MediaError(f"{out}: is no bag, and stays; choose another --out") from error
    there = {connection.topic for connection in before.connections}
    before.close()
    if not added & there:
        raise MediaError(
            f"{out}: is another recording, without a topic {min(added)}, and stays; move it, or "
            "choose another --out"
        )


def _describe_run(
    bag: Path, topic: str, chosen: model_set.ModelSet, config: PipelineConfig
) -> dict:
    """All that the networks' outputs depend on."""
    files = sorted(path for path in (bag.iterdir() if bag.is_dir() else [bag]) if path.is_file())
    about = [(path.name, path.stat()) for path in files]
    return {
        "input": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in about],
        "image topic": topic,
        "version": __version__,
        "model set": hashlib.sha256((chosen.path / "model.yaml").read_bytes()).hexdigest(),
        **{k: v for k, v in dataclasses.asdict(config).items() if k != "model_set"},
    }


def _whole_messages(bag: BagReader) -> Iterator[BagMessage]:
    """Yield the messages up to where the bag is damaged."""
    try:
        yield from bag.messages()
    except MediaError as error:
        _log.warning("%s; what comes before it is kept", error)


def _ahead(
    messages: Iterable[BagMessage], streams: dict[str, TopicFaces]
) -> Iterator[tuple[BagMessage, _Decoded | None]]:
    """Read, and decode in a thread, a few messages ahead."""
    waiting: deque[tuple[BagMessage, Future | None]] = deque()

    def oldest() -> tuple[BagMessage, _Decoded | None]:
        message, future = waiting.popleft()
        return message, future.result if future else None

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        for message in messages:
            stream = streams.get(message.topic)
            wanted = stream is not None and stream.needs_pixels()
            waiting.append((message, pool.submit(decode, message) if wanted else None))
            if len(waiting) > AHEAD:
                yield oldest()
        while waiting:
            yield oldest()


def _check_places(bag: Path, out: Path, part: Path) -> None:
    """Raise :class:`MediaError` if the run would replace its input, or work among other files."""
    inputs = [bag, *(bag.iterdir() if bag.is_dir() else ())]
    path = replaced_input((out, part), inputs)
    if path is not None:
        raise MediaError(f"{path}: is or holds the input itself; choose another --out")
    if not _is_workplace(part):
        raise MediaError(
            f"{part}: is in the way, and no unfinished run; move it, or choose another --out"
        )


def _is_workplace(part: Path) -> bool:
    """Whether there is nothing yet, or what an unfinished run leaves and nothing else."""
    if not part.is_dir():
        return not os.path.lexists(part)
    names = {path.name for path in part.iterdir()}
    ours = all(_OF_UNFINISHED_RUN.fullmatch(name) for name in names)
    return not names or (ours and "0.journal" in names)


def _remove_journals(part: Path) -> None:
    # The first one goes last: it shows that the folder is ours.
    for path in sorted(part.glob("[0-9]*.journal"), reverse=True):
        path.unlink()


def _in_use(part: Path) -> None:
    raise MediaError(f"{part}: another run writes there now; wait for it, or choose another --out")


def run(args: argparse.Namespace) -> int:
    """Process the whole bag; what an interruption leaves is taken up by the next run."""
    config: PipelineConfig = config_from(args)
    metric_config: MetricConfig = config_from(args, MetricConfig)
    check_out(args.out)
    part = args.out.with_name(args.out.name + ".part")
    _check_places(args.bag, args.out, part)
    with ExitStack() as stack:
        bag = BagReader(args.bag)
        stack.callback(bag.close)
        image_topics = chosen_image_topics(bag, args.image_topics)
        topics = output_topics(image_topics, args.topics, args.name)
        added = {topic for named in topics.values() for topic in named.values()}
        _require_free(bag, added, args.name)
        _check_replaced(args.out, added)
        chosen = model_set.load(model_set.find(config.model_set))
        stop = stack.enter_context(Interruption())
        stack.enter_context(locked(part, on_wait=lambda: _in_use(part)))
        if args.restart:
            _remove_journals(part)
        streams = {}
        for index, topic in enumerate(image_topics):
            about = _describe_run(args.bag, topic, chosen, config)
            journal = stack.enter_context(NetworkJournal(part / f"{index}.journal", about))
            rectified = metric_config.image_rectified
            calibration = BagCalibration(bag, topic, rectified=rectified)
            stream = TopicFaces(chosen, config, metric_config, calibration, journal, topics[topic])
            streams[topic] = stack.enter_context(stream)
        done_before = sum(stream.done_before for stream in streams.values())
        total = sum(bag.image_counts()[topic] for topic in image_topics)
        if done_before:
            sys.stdout.write(f"going on after {done_before} of {total} images\n")
        try:
            finished = _copy_with_faces(bag, args.out, part, streams, topics, stop, total)
        except WRITE_ERRORS as error:
            raise MediaError(
                f"{args.out}: cannot be written: {error}; {_done(streams)} of {total} images are "
                f"done and kept in {part}; make room and repeat the command to go on"
            ) from error
        if not finished:
            sys.stdout.write(
                f"{max(_done(streams), done_before)} of {total} images are done and kept in "
                f"{part}; repeat the command to go on\n"
            )
            return 0
        _remove_journals(part)
        with suppress(OSError):  # somebody has put something of theirs there
            part.rmdir()
        skipped = sum(stream.skipped for stream in streams.values())
        left_out = f", {skipped} broken ones left out" if skipped else ""
        sys.stdout.write(f"{_done(streams)} images{left_out} -> {args.out}\n")
    return 0


def _done(streams: dict[str, TopicFaces]) -> int:
    return sum(stream.images for stream in streams.values())


def _copy_with_faces(
    bag: BagReader,
    out: Path,
    part: Path,
    streams: dict[str, TopicFaces],
    topics: dict[str, dict[str, str]],
    stop: Interruption,
    total: int,
) -> bool:
    """Write the bag; returns whether it is complete."""
    shutil.rmtree(part / "bag", ignore_errors=True)
    copy = BagCopy(part / "bag", out)
    try:
        copy.copy_connections(bag.connections)
        for named in topics.values():
            for name, topic in named.items():
                copy.add_topic(topic, OUTPUTS[name].msgtype, typestore_with_faces(), OFFERED_QOS)

        def add(messages: Iterable[NewMessage]) -> None:
            for message in messages:
                copy.write(message.topic, message.received_ns, message.data)

        with tqdm(total=total, unit="image", disable=None, leave=False) as progress:
            for message, decoded in stop.until_requested(_ahead(_whole_messages(bag), streams)):
                copy.copy(message)
                for stream in streams.values():
                    if message.topic == stream.calibration.topic:
                        stream.calibration.take(message)
                if message.topic in streams:
                    add(streams[message.topic].take(message, decoded))
                    progress.update()
        if stop.requested:
            return False
        for stream in streams.values():
            add(stream.flush())
        copy.finish()
        return True
    finally:
        copy.abort()
