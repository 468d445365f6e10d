import dataclasses
import threading
import time

import pytest
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.image_input import ImageInput

COUNT = 7


def send(node, images, count=COUNT):
    """Publish messages, reliably, with numbers as their heights, and let them come in."""
    before = images.received
    publisher = node.create_publisher(Image, "image", QoSProfile(depth=COUNT))
    deadline = time.monotonic() + 20
    while publisher.get_subscription_count() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in range(count):
        publisher.publish(Image(height=number))
        while images.received <= before + number:
            assert time.monotonic() < deadline
            rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_publisher(publisher)


def numbers_in(images):
    taken = []
    while (image := images.take(0.0)) is not None:
        # Behind the encapsulation, the stamp and an empty frame_id of 5 bytes, padded to 8.
        taken.append(int.from_bytes(image.data[20:24], "little"))
    return taken


@pytest.fixture
def make_input(plain_node):
    inputs = []

    def make(**settings):
        config = dataclasses.replace(FaceNodeConfig(), **settings)
        inputs.append(ImageInput(plain_node, config))
        inputs[-1].start()
        return inputs[-1]

    yield make
    for images in inputs:
        images.stop()


def test_only_the_newest_waits(plain_node, make_input):
    images = make_input(image_reliability="reliable")
    send(plain_node, images)
    assert images.waiting == 1
    assert numbers_in(images) == [COUNT - 1]
    assert (images.received, images.dropped) == (COUNT, COUNT - 1)


def test_every_image_waits_in_order(plain_node, make_input):
    images = make_input(frame_policy="every")
    send(plain_node, images)
    assert numbers_in(images) == list(range(COUNT))
    assert (images.received, images.dropped) == (COUNT, 0)


def test_full_queue_drops_the_newcomers_and_counts_them(plain_node, make_input):
    images = make_input(frame_policy="every", queue_images=4)
    send(plain_node, images)
    assert numbers_in(images) == [0, 1, 2, 3]
    assert (images.received, images.dropped) == (COUNT, 3)


def test_stop_forgets_what_waits_and_start_counts_anew(plain_node, make_input):
    images = make_input(frame_policy="every")
    send(plain_node, images)
    images.stop()
    assert images.take(0.0) is None
    images.resume()
    send(plain_node, images, 2)
    assert numbers_in(images) == [0, 1]
    assert images.received == COUNT + 2
    images.stop()
    images.start()
    assert (images.received, images.dropped) == (0, 0)


def test_stop_wakes_who_waits(make_input):
    images = make_input()
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(images.take(60.0)))
    waiting.start()
    time.sleep(0.1)
    images.stop()
    waiting.join(5)
    assert taken == [None]


@pytest.mark.parametrize(
    ("settings", "reliability", "depth"),
    [
        ({}, ReliabilityPolicy.BEST_EFFORT, 1),
        ({"image_reliability": "reliable"}, ReliabilityPolicy.RELIABLE, 1),
        ({"frame_policy": "every", "queue_images": 50}, ReliabilityPolicy.RELIABLE, 50),
    ],
)
def test_quality_of_service(plain_node, make_input, settings, reliability, depth):
    make_input(**settings)
    (subscription,) = [s for s in plain_node.subscriptions if s.topic_name == "/image"]
    assert subscription.qos_profile.reliability == reliability
    assert subscription.qos_profile.depth == depth
