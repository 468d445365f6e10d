"""One node as a process: starts it, ends it cleanly on Ctrl-C or SIGTERM, gives the exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from tddfa_ros.core.errors import TddfaError


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
    Exit code: 0, or 1 after an error, which has been logged.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except TddfaError as error:
        rclpy.logging.get_logger(node_name).fatal(str(error))
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    broken = threading.Event()
    callbacks = threading.Thread(target=_spin, args=(executor, stop, broken), name="callbacks")
    callbacks.start()
    try:
        code = node.run(stop)
    except TddfaError as error:
        node.get_logger().fatal(str(error))
        code = 1
    finally:
        executor.shutdown()
        callbacks.join()
        node.close()
        rclpy.try_shutdown()
    return 1 if broken.is_set() else code


def _spin(executor: Executor, stop: threading.Event, broken: threading.Event) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        sys.stderr.flush()
    except Exception:
        # A node without callbacks would hang: better that it ends, and is started anew.
        broken.set()
        stop.set()
        raise
