"""One node as a process: starts it, ends it cleanly on Ctrl-C or SIGTERM, gives the exit code."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.interruption import set_from_handler
from tddfa_ros.nodes.spinning import SpinningThread

RCLError = rclpy_implementation.RCLError
EXIT_DIED = 70
"""After an error that nobody foresaw (EX_SOFTWARE); the launch files start such a node again."""


class RunnableNode(Protocol):
    """What :func:`run_node` needs of a node beside being one."""

    def run(self, stop: threading.Event) -> int:
        """Work until done or `stop` is set, while callbacks run in another thread."""

    def close(self) -> None:
        """End all threads and destroy the node; callbacks have ended."""


def run_node(
    make_node: Callable[[], Node],
    args: Sequence[str] | None,
    *,
    node_name: str = "node",
) -> int:
    """Run a node until it is done, Ctrl-C or SIGTERM.

    The main thread runs the node's own work, where Python handles signals at once; callbacks run in
    a second one.

    Parameters
    ----------
    make_node : gives a node that is a :class:`RunnableNode`
    args : command line with ROS arguments; None takes ``sys.argv``
    node_name : names the node in the message when it cannot even be made

    Returns
    -------
    Exit code: 0, 1 after an error, which has been logged, or :data:`EXIT_DIED` after one that
    nobody foresaw, with its traceback.
    """
    left = remove_ros_args(sys.argv)[1:] if args is None else []
    if left:
        sys.stderr.write(
            f"{node_name}: {' '.join(left)}: no ROS arguments; what a node is told are parameters "
            "and remappings, after --ros-args: -p max_faces:=3 -r image:=/camera/image_raw\n"
        )
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: set_from_handler(stop))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RCLError as error:
        # With ROS arguments that cannot be read there is no log yet either.
        sys.stderr.write(f"{node_name}: {str(error).splitlines()[0]}\n")
        return 1
    try:
        node = make_node()
    except (TddfaError, ParameterException) as error:
        rclpy.logging.get_logger(node_name).fatal(str(error))
        rclpy.try_shutdown()
        return 1
    except Exception:  # noqa: BLE001  told by its traceback and the exit code
        traceback.print_exc()
        rclpy.try_shutdown()
        return EXIT_DIED
    broken = threading.Event()

    def end_broken() -> None:
        # A node without callbacks would hang: better that it ends, and is started anew.
        broken.set()
        stop.set()

    callbacks = SpinningThread(node, "callbacks", on_error=end_broken)
    callbacks.start()
    try:
        code = node.run(stop)
    except TddfaError as error:
        node.get_logger().fatal(str(error))
        code = 1
    except Exception:  # noqa: BLE001  told by its traceback and the exit code
        traceback.print_exc()
        code = EXIT_DIED
    finally:
        callbacks.end()
        node.close()
        rclpy.try_shutdown()
    return EXIT_DIED if broken.is_set() else code
