"""The camera of the images, from messages on a real topic."""

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from tddfa_ros.nodes.camera_info_input import CameraInfoInput

K = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 310.0, 0.0, 0.0, 490.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def calibration(**changes):
    fields = {"height": 480, "width": 640, "distortion_model": "plumb_bob", "k": K, "p": P}
    return CameraInfo(**(fields | {"d": [0.1, 0.0, 0.0, 0.0, 0.0]} | changes))


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


@pytest.fixture
def cameras(plain_node):
    cameras = CameraInfoInput(plain_node)
    cameras._log = Log()
    cameras.start()
    yield cameras
    cameras.stop()


@pytest.fixture
def send(plain_node, cameras):
    """Publish messages, and spin until the last has come."""
    executor = SingleThreadedExecutor()
    executor.add_node(plain_node)
    publisher = plain_node.create_publisher(CameraInfo, "camera_info", 1)

    def send(message):
        for _ in range(200):
            publisher.publish(message)
            executor.spin_once(0.05)
            if cameras._message == message:
                return
        pytest.fail("no message came")

    yield send
    executor.shutdown()


def test_raw_and_rectified_images(cameras, send):
    send(calibration())
    raw = cameras.camera(480, 640, rectified=False)
    np.testing.assert_array_equal(raw.matrix.ravel(), K)
    np.testing.assert_array_equal(raw.distortion, [0.1, 0, 0, 0, 0])
    rectified = cameras.camera(480, 640, rectified=True)
    np.testing.assert_array_equal(rectified.matrix, np.reshape(P, (3, 4))[:, :3])
    assert len(rectified.distortion) == 0
    assert cameras._log.lines == []


def test_each_image_has_the_camera_of_its_size(cameras):
    cameras._keep(calibration())
    for height, width in ((480, 640), (240, 320), (480, 640)):
        camera = cameras.camera(height, width, rectified=False)
        assert (camera.height, camera.width) == (height, width)
        assert camera.matrix[0, 0] == pytest.approx(500 * width / 640)


def test_an_image_of_half_the_size(cameras, send):
    send(calibration())
    camera = cameras.camera(240, 320, rectified=False)
    assert (camera.height, camera.width) == (240, 320)
    assert camera.matrix[0, 0] == 250
    assert cameras.camera(240, 320, rectified=False) is camera


def test_an_image_of_a_part_of_the_sensor(cameras, send):
    message = calibration()
    send(message)
    whole = cameras.camera(480, 640, rectified=False)
    message.roi = RegionOfInterest(x_offset=160, y_offset=120, width=320, height=240)
    send(message)
    part = cameras.camera(240, 320, rectified=False)
    assert part.matrix[0, 0] == whole.matrix[0, 0]
    np.testing.assert_array_equal(part.matrix[:2, 2], whole.matrix[:2, 2] - [160, 120])


def test_a_camera_of_other_binning_is_another(cameras, send):
    send(calibration(binning_x=1, binning_y=2))
    assert cameras.camera(240, 640, rectified=False) is not None
    send(calibration())
    assert cameras.camera(240, 640, rectified=False) is None
    (line,) = cameras._log.lines
    assert "640x240" in line


def test_the_newest_message_holds(cameras, send):
    send(calibration())
    send(calibration(k=[600.0, *K[1:]]))
    assert cameras.camera(480, 640, rectified=False).matrix[0, 0] == 600


def test_the_end_of_a_stream_is_that_of_its_camera(cameras):
    cameras._keep(calibration())
    assert cameras.camera(480, 640, rectified=False) is not None
    cameras.stop()
    cameras.start()
    assert cameras.camera(480, 640, rectified=False) is None


def test_an_uncalibrated_camera_is_one_line(cameras, send):
    send(calibration(k=[0.0] * 9))
    for _ in range(3):
        assert cameras.camera(480, 640, rectified=False) is None
    (line,) = cameras._log.lines
    assert "uncalibrated: no metric pose, no TF" in line


def test_a_bad_calibration_is_one_line_until_it_is_good(cameras, send):
    bad = calibration(distortion_model="magic")
    for _ in range(2):
        send(bad)
        assert cameras.camera(480, 640, rectified=False) is None
        assert cameras.camera(240, 320, rectified=False) is None
    (line,) = cameras._log.lines
    assert "magic" in line
    send(calibration())
    assert cameras.camera(480, 640, rectified=False) is not None
    send(bad)
    assert cameras.camera(480, 640, rectified=False) is None
    assert len(cameras._log.lines) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -500.0])
def test_numbers_that_are_no_calibration(cameras, send, value):
    # Its own equal, as NaN is not: compare by the rest.
    message = calibration(k=[value, *K[1:]])
    cameras._keep(message)
    assert cameras.camera(480, 640, rectified=False) is None
    assert len(cameras._log.lines) == 1


def test_no_message_is_one_line_and_no_wait_without_a_publisher(cameras):
    assert cameras.camera(480, 640, rectified=False) is None
    assert cameras.camera(480, 640, rectified=False) is None
    (line,) = cameras._log.lines
    assert "/camera_info" in line


def test_a_shape_that_does_not_fit_is_one_line(cameras, send):
    send(calibration(roi=RegionOfInterest(x_offset=0, y_offset=0, width=640, height=240)))
    for _ in range(2):
        assert cameras.camera(480, 640, rectified=False) is None
    (line,) = cameras._log.lines
    assert "640x240" in line
    assert "no metric pose, no TF" in line


LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def spin_until_heard(node, cameras, before_each=lambda: None):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        for _ in range(200):
            before_each()
            executor.spin_once(0.05)
            if cameras.camera(480, 640, rectified=False) is not None:
                return
        pytest.fail("not heard")
    finally:
        executor.shutdown()


def test_what_was_published_once_before_the_start_is_heard(plain_node, cameras):
    cameras.stop()
    publisher = plain_node.create_publisher(CameraInfo, "camera_info", LATCHED)
    publisher.publish(calibration())
    cameras.start()
    assert cameras.camera(480, 640, rectified=False).matrix[0, 0] == 500
    # In every stream anew.
    cameras.stop()
    cameras.start()
    assert cameras.camera(480, 640, rectified=False).matrix[0, 0] == 500
    # Later messages of the same publisher come, too.
    executor = SingleThreadedExecutor()
    executor.add_node(plain_node)
    publisher.publish(calibration(k=[600.0, *K[1:]]))
    for _ in range(50):
        executor.spin_once(0.05)
        if cameras.camera(480, 640, rectified=False).matrix[0, 0] == 600:
            break
    else:
        pytest.fail("not heard")
    executor.shutdown()
    cameras.stop()
    assert plain_node.count_subscribers("camera_info") == 0


def test_what_was_published_once_before_it_was_found_is_heard(plain_node, cameras):
    assert cameras.camera(480, 640, rectified=False) is None
    publisher = plain_node.create_publisher(CameraInfo, "camera_info", LATCHED)
    publisher.publish(calibration())
    # Nothing takes what the subscription made at the start may have been sent.
    cameras.camera(480, 640, rectified=False)
    plain_node.destroy_subscription(cameras._subscriptions.pop(0))
    spin_until_heard(plain_node, cameras)


def test_publishers_of_each_message_meet_no_subscription_that_they_cannot_serve(
    plain_node, cameras
):
    """It would make each driver warn of a quality of service that does not fit."""
    plain_node.create_publisher(CameraInfo, "camera_info", 1)
    for _ in range(2):
        assert cameras.camera(480, 640, rectified=False) is None
    assert plain_node.count_subscribers("camera_info") == 1


@pytest.mark.parametrize("durability", list(DurabilityPolicy)[1:3])
@pytest.mark.parametrize("reliability", list(ReliabilityPolicy)[1:3])
def test_every_publisher_is_heard(plain_node, cameras, durability, reliability):
    profile = QoSProfile(depth=1, durability=durability, reliability=reliability)
    publisher = plain_node.create_publisher(CameraInfo, "camera_info", profile)
    spin_until_heard(plain_node, cameras, lambda: publisher.publish(calibration()))
