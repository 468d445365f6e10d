"""A thread that runs the callbacks of a node, and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class SpinningThread(threading.Thread):
    """Runs a node's callbacks until :meth:`end`, or until ROS is shut down.

    rclpy's ``Executor.shutdown`` does not wait for the thread that spins, whatever it says: it
    takes away the guard conditions that would wake it. That thread then raised for want of one, or
    waited without any, for ever where nothing else came. Here it has ended before.

    Parameters
    ----------
    node : whose callbacks run, one at a time
    name : of the thread
    on_error : is called, in that thread, before what a callback raised ends it
    """

    def __init__(
        self, node: Node, name: str, on_error: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(name=name)
        self._on_error = on_error
        self._ending = threading.Event()
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def run(self) -> None:
        """Run the callbacks."""
        try:
            while self._executor.context.ok() and not self._ending.is_set():
                self._executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception:  # Whatever a callback raised: told, and raised on.
            self._on_error()
            raise

    def end(self) -> None:
        """Wait for the callback that is running, if there is one, and end."""
        self._ending.set()
        if self.is_alive():
            # Work is what `spin_once` returns for.
            self._executor.create_task(lambda: None)
        self.join()
        self._executor.shutdown()
