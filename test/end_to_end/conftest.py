"""Real processes on a ROS domain of their own."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

HERE = Path(__file__).parent
STOP_PATIENCE_S = 15.0
PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have Linux end this process when pytest dies, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A child process whose output is kept for the message of a failing test."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait(self, timeout_s: float) -> int:
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.log.name} did not end within {timeout_s:g} s:\n{self.output}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; the exit code."""
        if self._child.poll() is None:
            self._child.send_signal(number)
        try:
            return self._child.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            pytest.fail(f"{self.log.name} did not end on signal {number}:\n{self.output}")

    def await_output(self, text: str, timeout_s: float = 60.0) -> None:
        wait_until(
            lambda: text in self.output or self._child.poll() is not None,
            f"{text!r} from {self.log.name}",
            timeout_s,
            lambda: self.output,
        )
        assert text in self.output, f"{self.log.name} ended:\n{self.output}"


def wait_until(
    condition: Callable[[], Any],
    what: str,
    timeout_s: float = 60.0,
    describe: Callable[[], str] = str,
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s for {what}\n{describe()}")
        time.sleep(0.02)


class RosWorld:
    """Starts processes on one ROS domain, and reads what receivers wrote."""

    def __init__(self, folder: Path, domain_id: int) -> None:
        self.folder = folder
        self.domain_id = domain_id
        self.processes: list[Process] = []
        profile = str(HERE.parents[1] / "config" / "fastdds.xml")
        self.environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain_id),
            "ROS_LOG_DIR": str(folder / "ros-logs"),
            "PYTHONUNBUFFERED": "1",
            "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
            "FASTDDS_DEFAULT_PROFILES_FILE": profile,
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        }

    def run(self, *command: str) -> Process:
        log = self.folder / f"process-{len(self.processes)}.log"
        process = Process([sys.executable, *command], self.environment, log)
        self.processes.append(process)
        return process

    def node(self, name: str, *ros_arguments: str, **parameters: object) -> Process:
        arguments = list(ros_arguments)
        for key, value in parameters.items():
            arguments += ["-p", f"{key}:={json.dumps(value)}"]
        return self.run("-m", f"tddfa_ros.nodes.{name}", "--ros-args", *arguments)

    def face_node(self, model_set: Path, *ros_arguments: str, **parameters: object) -> Process:
        process = self.node("face_node", *ros_arguments, model_set=str(model_set), **parameters)
        process.await_output("waiting for images")
        return process

    def receiver(self, topic: str, *ros_arguments: str) -> Path:
        path = self.folder / f"received-{len(self.processes)}.jsonl"
        script = str(HERE / "receive_faces.py")
        self.run(script, str(path), topic, "--ros-args", *ros_arguments)
        wait_until(Path(f"{path}.matched").exists, f"a receiver of {topic}")
        time.sleep(0.5)  # until the publisher has matched it, too
        return path

    def stop(self) -> None:
        with ExitStack() as stack:  # stops the others although one does not stop
            for process in self.processes:
                stack.callback(process.stop)


def received(path: Path) -> list[dict[str, Any]]:
    """What a receiver has written so far; a line that is being written is left out."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line]


def await_received(path: Path, count: int, timeout_s: float = 60.0) -> list[dict[str, Any]]:
    wait_until(
        lambda: len(received(path)) >= count,
        f"{count} messages",
        timeout_s,
        lambda: f"{len(received(path))} came",
    )
    return received(path)


@contextmanager
def _own_domain() -> Iterator[int]:
    """An even domain that no other test has and whose first participant's port nobody holds."""
    for domain_id in random.sample(range(2, 101, 2), 50):
        path = Path(tempfile.gettempdir()) / f"tddfa_ros-test-domain-{domain_id}.lock"
        with ExitStack() as stack:
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            try:
                # Kept until the world ends: that its nodes have not started yet frees no domain.
                lock = stack.enter_context(path.open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                probe.bind(("", 7410 + 250 * domain_id))
            except OSError:
                continue
            probe.close()
            yield domain_id
            return
    pytest.fail("no free ROS domain")


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[[], RosWorld]]:
    """Make worlds that do not hear each other."""
    worlds: list[RosWorld] = []
    with ExitStack() as stack:

        def make() -> RosWorld:
            folder = tmp_path / f"world-{len(worlds)}"
            folder.mkdir()
            worlds.append(RosWorld(folder, stack.enter_context(_own_domain())))
            stack.callback(worlds[-1].stop)
            return worlds[-1]

        yield make


@pytest.fixture
def world(make_world: Callable[[], RosWorld]) -> RosWorld:
    """A world of its own."""
    return make_world()


class Probe:
    """A node of the test's own in a world: publishes images, calls services."""

    def __init__(self, world: RosWorld) -> None:
        self._world = world
        self._clients: dict[str, Client] = {}
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=world.domain_id)
        self.node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def spin_until(self, condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> None:
        if not self._spin(condition, timeout_s):
            told = [f"{process.log.name}:\n{process.output}" for process in self._world.processes]
            pytest.fail("\n".join([f"waited {timeout_s:g} s for {what}", *told]))

    def _spin(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Whether the condition came true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(0.02)
        return True

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def publisher(self, message_type: type, topic: str, subscribers: int = 1) -> Publisher:
        publisher = self.node.create_publisher(message_type, topic, QoSProfile(depth=1))
        self.spin_until(
            lambda: publisher.get_subscription_count() >= subscribers, f"a subscriber of {topic}"
        )
        return publisher

    def messages(self, message_type: type, topic: str, depth: int = 100) -> list[Any]:
        """Return a list that fills while the probe spins."""
        kept: list[Any] = []
        self.node.create_subscription(message_type, topic, kept.append, QoSProfile(depth=depth))
        self.spin_until(lambda: self.node.count_publishers(topic) > 0, f"a publisher of {topic}")
        return kept

    def call(self, service_type: type, name: str, **fields: object) -> Any:
        request = service_type.Request(**fields)
        known = name in self._clients
        client = self.client(service_type, name)
        future = client.call_async(request)
        # Without an answer in this time, the first one is taken for lost: see client().
        if not known and not self._spin(future.done, 10.0):
            future = client.call_async(request)
        self.spin_until(future.done, f"an answer of {name}")
        return future.result()

    def client(self, service_type: type, name: str) -> Client:
        """Of a service, kept for all calls.

        A server that has not discovered who asks waits 0.1 s for it, then its answer is lost
        (rmw_fastrtps says "failed to send response"), and the asking side cannot tell.
        """
        if name not in self._clients:
            client = self.node.create_client(service_type, name)
            self.spin_until(client.service_is_ready, f"the service {name}")
            self.spin_for(0.5)
            self._clients[name] = client
        return self._clients[name]

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def probe(world: RosWorld) -> Iterator[Probe]:
    """Be a node in the test's world."""
    probe = Probe(world)
    yield probe
    probe.close()


@pytest.fixture
def await_faces() -> Callable[..., list[dict[str, Any]]]:
    """Wait for a receiver to have that many messages, and return them."""
    return await_received


@pytest.fixture
def faces_so_far() -> Callable[[Path], list[dict[str, Any]]]:
    """Return what a receiver has."""
    return received


@pytest.fixture
def await_true() -> Callable[..., None]:
    """Wait for a condition."""
    return wait_until
