"""``python -m tddfa_ros <verb>``: imports what the chosen verb needs, and nothing else."""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import io
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.interruption import EXIT_TERMINATED, Interruption

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

ERRORS_OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EMFILE,
    errno.EEXIST,
    errno.ENOENT,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
"""Full, read-only, forbidden, taken or absent places are no mistake in the program: one line is
enough."""


@dataclass(frozen=True)
class Verb:
    """A command: its module has ``add_arguments(parser)``, ``run(args) -> int``, ``EXAMPLES``."""

    module: str
    summary: str
    needs_ros: bool = False


VERBS = {
    "image": Verb("tddfa_ros.tools.image", "fit the faces in pictures"),
    "video": Verb("tddfa_ros.tools.video", "fit and track the faces in a video"),
    "webcam": Verb("tddfa_ros.nodes.webcam", "publish a webcam and its faces", needs_ros=True),
    "demo": Verb("tddfa_ros.nodes.demo", "play media through the nodes and record", needs_ros=True),
    "export": Verb(
        "tddfa_ros.nodes.export", "have a running face node write a mesh", needs_ros=True
    ),
    "bag": Verb("tddfa_ros.nodes.bag", "add the faces to a rosbag2 recording", needs_ros=True),
    "models": Verb("tddfa_ros.tools.models", "list, import, fetch and verify model sets"),
    "bench": Verb("tddfa_ros.tools.bench", "measure the speed of every stage on this machine"),
}


def _overview() -> str:
    lines = [f"  {name:8s} {verb.summary}" for name, verb in VERBS.items()]
    return "verbs:\n" + "\n".join(lines) + "\n\n`python -m tddfa_ros VERB --help` says more."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tddfa_ros",
        description="Dense 3D faces from pictures, videos and ROS 2 image streams.",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do; see below")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the verb"
    )
    return parser


def _check_ros(verb_name: str) -> None:
    for package in ("rclpy", "tddfa_msgs"):
        if importlib.util.find_spec(package) is None:
            raise TddfaError(
                f"{verb_name}: the Python package {package} is not there; run `source env.sh` in "
                "a checkout, or source the ROS 2 workspace that tddfa_ros was built in, and retry"
            )


def _run_verb(name: str, arguments: list[str]) -> int:
    verb = VERBS[name]
    if verb.needs_ros:
        _check_ros(name)
    # Compiled modules make an ImportError of an interruption: it takes effect after them.
    with Interruption():
        module = importlib.import_module(verb.module)
    parser = argparse.ArgumentParser(
        prog=f"python -m tddfa_ros {name}",
        description=module.__doc__,
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return module.run(parser.parse_args(arguments)) or 0


def _on_sigterm(*_: object) -> None:
    raise SystemExit(EXIT_TERMINATED)


def _open_closed_streams() -> None:
    """Give what the caller has closed to nobody: else the next file would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  stays open


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Returns
    -------
    int
        0, or 1 after a :class:`TddfaError`, 130 after Ctrl-C; argparse exits with 2 on wrong usage.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be text that the terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    # Open files are closed properly when a supervisor stops us, as they are on Ctrl-C.
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return _run_verb(args.verb, args.arguments)
    except TddfaError as error:
        sys.stderr.write(f"tddfa_ros {args.verb}: {error}\n")
        return EXIT_ERROR
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: no more of it, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        if error.errno not in ERRORS_OF_THE_MACHINE:
            raise
        sys.stderr.write(f"tddfa_ros {args.verb}: {error}\n")
        return EXIT_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
