"""Lifecycle cycles of a real process leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

CYCLES = 50
WARM_UP_CYCLES = 12
MOST_GROWTH_MB = 5.0
"""Of the resident set after the warm-up, as of a stream of 20,000 images."""


def resident_mb(pid: int) -> float:
    (line,) = [s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in s]
    return int(line.split()[1]) / 1024


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
def test_fifty_cycles_leave_no_memory_thread_or_file(world, probe, tddfa_v2_set, astronaut):
    """From unconfigured to faces and back, fifty times in one process."""
    # So that what is freed leaves the process, and the resident set is what is held.
    world.environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    node = world.node(
        "face_node", model_set=str(tddfa_v2_set), autostart=False, image_reliability="reliable"
    )
    pid = node.pid
    publisher = probe.node.create_publisher(Image, "image", QoSProfile(depth=1))
    calibration = probe.node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=1))
    answers: list[FaceArray] = []
    probe.node.create_subscription(FaceArray, "faces", answers.append, 10)

    def change(label: str) -> None:
        request = ChangeState.Request().transition
        request.label = label
        assert probe.call(ChangeState, "/face_node/change_state", transition=request).success

    def answered() -> int:
        calibration.publish(CameraInfo())
        publisher.publish(encode_image(astronaut, ImageHeader(7, 0, "camera")))
        probe.spin_for(0.05)
        return len(answers)

    memory, thread_counts, file_counts = [], [], []
    for _ in range(CYCLES):
        change("configure")
        change("activate")
        answers.clear()
        probe.spin_until(answered, "faces")
        assert len(answers[-1].faces) == 1
        change("deactivate")
        change("cleanup")
        memory.append(resident_mb(pid))
        thread_counts.append(threads(pid))
        file_counts.append(open_files(pid))
    # The executor starts its threads when they are first needed.
    assert thread_counts[-1] <= thread_counts[WARM_UP_CYCLES], thread_counts
    assert file_counts[-1] <= file_counts[WARM_UP_CYCLES], file_counts
    # The median of the last cycles, as an allocator's pages come and go.
    growth_mb = np.median(memory[-5:]) - np.median(memory[WARM_UP_CYCLES : WARM_UP_CYCLES + 5])
    assert growth_mb < MOST_GROWTH_MB, np.round(memory).tolist()
    assert "Traceback" not in node.output
    assert node.stop() == 0
