"""Have a running face node write the mesh of a face of its newest image; says where it lies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

import rclpy
from rclpy.client import Client
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_full_topic_name import validate_full_topic_name

from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core.config_arguments import above_zero
from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.mesh_io import FORMATS, POSES
from tddfa_ros.nodes.mesh_export import DEFAULT_POSE
from tddfa_ros.nodes.session import say

EXAMPLES = """examples:
  python -m tddfa_ros export
  python -m tddfa_ros export me/head.ply --face f00002
  python -m tddfa_ros export --node /front/face_node --timeout-s 30

The file lies below the face node's parameter export_dir, on the machine that the node runs on.
"""

DEFAULT_FORMAT = "glb"
SERVICE_TYPE = "tddfa_msgs/srv/ExportMesh"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    listed = ", ".join(suffix[1:] for suffix in FORMATS)
    parser.add_argument(
        "file",
        nargs="?",
        default="",
        metavar="FILE",
        help=f"name below export_dir; its suffix says the format: {listed} (default "
        f"face_<id>_<stamp>.{DEFAULT_FORMAT})",
    )
    parser.add_argument("--face", default="", metavar="ID", help="default: the most prominent")
    parser.add_argument(
        "--mesh-pose",
        choices=POSES,
        default=DEFAULT_POSE,
        help="own: upright, in metres; frontal: upright, in pixels; image: as fitted, in pixels "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--no-texture", action="store_true", help="neither texture nor vertex colours"
    )
    parser.add_argument(
        "--node",
        type=_node_name,
        default="/face_node",
        metavar="NAME",
        help="face node (default %(default)s)",
    )
    parser.add_argument(
        "--timeout-s",
        type=above_zero(float),
        default=10.0,
        metavar="S",
        help="seconds to wait for the node, and for its answer (default %(default)g)",
    )


def _node_name(text: str) -> str:
    name = "/" + text.strip("/")
    try:
        validate_full_topic_name(name)
    except NameValidationException as error:
        reason = str(error).splitlines()[0].rpartition("topic name ")[2].rstrip(":")
        raise argparse.ArgumentTypeError(f"{text!r} is not a node's name: it {reason}") from error
    return name


def run(args: argparse.Namespace) -> int:
    """Ask once.

    Raises
    ------
    ExportError
        The suffix is of no format, the node is not there, does not answer, or refuses.
    """
    suffix = PurePath(args.file).suffix.lower()
    if args.file and suffix not in FORMATS:
        raise ExportError(f"{args.file}: end the name with one of {', '.join(FORMATS)}")
    request = ExportMesh.Request(
        face_id=args.face,
        format=suffix[1:] or DEFAULT_FORMAT,
        pose=args.mesh_pose,
        texture=not args.no_texture,
        file_name=args.file,
    )
    with _node() as node:
        client = node.create_client(ExportMesh, f"{args.node}/export_mesh")
        answer = ask(node, client, request, args.timeout_s)
    say(f"{answer.vertex_count} vertices, {answer.triangle_count} triangles -> {answer.path}")
    return 0


@contextmanager
def _node() -> Iterator[Node]:
    # Ctrl-C reaches Python's own handler, which ends the waiting.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("mesh_export_client")
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def ask(
    node: Node, client: Client, request: ExportMesh.Request, timeout_s: float
) -> ExportMesh.Response:
    """Have a mesh written by the service that `client` of `node`, which is in no executor, calls.

    Raises
    ------
    ExportError
        The service is not there, does not answer, or refuses.
    """
    service = client.service_name
    if not client.wait_for_service(timeout_s):
        others = [
            name for name, types in node.get_service_names_and_types() if SERVICE_TYPE in types
        ]
        known = ", ".join(name.removesuffix("/export_mesh") for name in others if name != service)
        raise ExportError(
            f"no service {service} within {timeout_s:g} s; "
            + (f"name the node by --node: {known}" if known else "is a face node running?")
        )
    future = client.call_async(request)
    deadline = time.monotonic() + timeout_s
    while not future.done() and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
    if not future.done():
        raise ExportError(f"{service} did not answer within {timeout_s:g} s; see the node's log")
    answer = future.result()
    if not answer.success:
        raise ExportError(answer.message)
    return answer
