import time

import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from tddfa_ros.core.errors import ConfigError
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.image_input import ImageInput
from tddfa_ros.nodes.quality_of_service import SubscriptionQos, mismatch, own_copy

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=7, reliability=ReliabilityPolicy.RELIABLE)
PREFIX = "qos_overrides./image.subscription."


@pytest.fixture
def make_node(ros):
    nodes = []

    def make(**overrides):
        given = [Parameter(f"{PREFIX}{name}", value=value) for name, value in overrides.items()]
        nodes.append(Node("host", parameter_overrides=given))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def values(profile):
    return profile.history, profile.depth, profile.reliability


def test_a_later_default_is_not_held_back_by_an_earlier_one(make_node):
    node = make_node()
    for default in (BEST_EFFORT, RELIABLE, BEST_EFFORT):
        qos = SubscriptionQos(node, "/image", default)
        assert values(qos.profile) == values(default)
        assert node.get_parameter(f"{PREFIX}depth").value == default.depth
        qos.close()
        assert not node.has_parameter(f"{PREFIX}depth")


def test_overrides_beat_every_default(make_node):
    node = make_node(depth=3, reliability="reliable")
    for default in (BEST_EFFORT, RELIABLE):
        qos = SubscriptionQos(node, "/image", default)
        expected = (HistoryPolicy.KEEP_LAST, 3, ReliabilityPolicy.RELIABLE)
        assert values(qos.profile) == expected
        qos.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("depth", -1), ("depth", 0), ("reliability", "often"), ("history", "unknown")],
)
def test_what_is_no_policy_is_refused(make_node, name, value):
    with pytest.raises(ConfigError, match=f"{PREFIX}{name} is .*{value}"):
        SubscriptionQos(make_node(**{name: value}), "/image", RELIABLE)


def test_mismatch_only_where_the_publisher_offers_less():
    assert "reliable" in mismatch(BEST_EFFORT, RELIABLE)
    for offered, asked in ((RELIABLE, BEST_EFFORT), (RELIABLE, RELIABLE)):
        assert mismatch(offered, asked) == ""


def test_a_copy_has_all_of_the_original_and_is_not_changed_with_it():
    original = QoSProfile(
        history=HistoryPolicy.KEEP_ALL,
        depth=7,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        deadline=Duration(seconds=2),
        liveliness_lease_duration=Duration(seconds=3),
    )
    copy = own_copy(original)
    assert copy == original
    copy.depth = 1
    assert original.depth == 7


def spin_until(node, condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        rclpy.spin_once(node, timeout_sec=0.05)


@pytest.mark.parametrize(("offered", "why"), [(RELIABLE, ""), (BEST_EFFORT, "reliable")])
def test_who_is_discovered_is_told_of_only_what_does_not_fit(make_node, offered, why):
    """What the middleware tells of a subscription has limits filled in that nobody has set."""
    node = make_node()
    node.create_subscription(Image, "image", lambda _: None, RELIABLE)
    spin_until(node, lambda: node.get_subscriptions_info_by_topic("/image"))
    (found,) = node.get_subscriptions_info_by_topic("/image")
    told = mismatch(offered, found.qos_profile)
    assert bool(told) == bool(why)
    assert why in told
    assert "deadline" not in told
    assert "lease" not in told


@pytest.mark.parametrize(("publishers", "lost"), [(1, 4), (2, 0)])
def test_images_that_never_came_are_counted(make_node, publishers, lost):
    """Five images while nobody takes them, and depth 1: four are gone. Two publishers have two
    numberings, in which gaps mean nothing.
    """
    node = make_node()
    taken = []
    images = ImageInput(node, FaceNodeConfig(), taken.append)
    images.start()
    senders = [node.create_publisher(Image, "image", 1) for _ in range(publishers)]
    spin_until(node, lambda: images.publishers == publishers)
    senders[0].publish(Image(height=1))
    spin_until(node, lambda: images.received == 1)
    for number in range(5):
        senders[0].publish(Image(height=number))
    time.sleep(0.3)
    spin_until(node, lambda: images.received == 2)
    assert images.lost == taken[-1].missed == lost
    images.close()


def test_a_publisher_whose_numbers_are_higher_than_those_of_the_one_before_has_lost_nothing(
    make_node,
):
    node = make_node()
    images = ImageInput(node, FaceNodeConfig(), lambda image: None)
    images.start()
    first = node.create_publisher(Image, "image", 1)
    spin_until(node, lambda: images.publishers == 1)
    first.publish(Image())
    spin_until(node, lambda: images.received == 1)
    second = node.create_publisher(Image, "image", 1)
    spin_until(node, lambda: images.publishers == 2)
    for count in range(2, 7):
        second.publish(Image())
        spin_until(node, lambda count=count: images.received == count)
    node.destroy_publisher(first)
    spin_until(node, lambda: images.publishers == 1)
    second.publish(Image())
    spin_until(node, lambda: images.received == 7)
    assert (images.received, images.dropped, images.lost) == (7, 0, 0)
    images.close()
