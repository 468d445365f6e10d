import dataclasses
import time

import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.image_input import ImageInput

COUNT = 7
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


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


def number_in(image):
    # Behind the encapsulation, the stamp and an empty frame_id of 5 bytes, padded to 8.
    return int.from_bytes(image.data[20:24], "little")


@pytest.fixture
def make_input(plain_node):
    """Make an input that is started; its images are added to the list `taken` of it."""
    inputs = []

    def make(**settings):
        config = dataclasses.replace(FaceNodeConfig(), **settings)
        taken = []
        inputs.append(ImageInput(plain_node, config, taken.append))
        inputs[-1].taken = taken
        inputs[-1].start()
        return inputs[-1]

    yield make
    for images in inputs:
        images.stop()


def work_on_the_first_while_others_come(node, images, count=COUNT):
    """Publish images, of which all but the first come while that one is worked on."""
    publisher = node.create_publisher(Image, "image", QoSProfile(depth=COUNT))
    keep = images.taken.append

    def work(image):
        keep(image)
        if number_in(image) == 0:
            for number in range(1, count):
                publisher.publish(Image(height=number))
            time.sleep(0.5)

    images._on_image = work
    deadline = time.monotonic() + 20
    while images.publishers == 0:
        assert time.monotonic() < deadline
        rclpy.spin_once(node, timeout_sec=0.1)
    publisher.publish(Image(height=0))
    while not images.taken or number_in(images.taken[-1]) != count - 1:
        assert time.monotonic() < deadline
        rclpy.spin_once(node, timeout_sec=0.1)
    return publisher


def test_every_image_is_handed_on_in_order(plain_node, make_input):
    images = make_input(image_reliability="reliable")
    send(plain_node, images)
    assert [number_in(image) for image in images.taken] == list(range(COUNT))
    assert (images.received, images.dropped, images.lost) == (COUNT, 0, 0)
    assert all(0 <= image.waited_ns < 5e9 for image in images.taken)


def test_only_the_newest_waits(plain_node, make_input):
    images = make_input(image_reliability="reliable")
    work_on_the_first_while_others_come(plain_node, images)
    assert [number_in(image) for image in images.taken] == [0, COUNT - 1]
    assert (images.received, images.dropped, images.lost) == (COUNT, COUNT - 2, 0)
    assert [image.missed for image in images.taken] == [0, COUNT - 2]
    last = images.taken[-1]
    assert last.waited_ns > 0.4e9
    # By the node's clock it came then, not when it was taken.
    assert abs(last.arrived_clock_ns + last.waited_ns - images._busy_since_ns) < 0.3e9


def test_every_image_waits_in_order(plain_node, make_input):
    images = make_input(frame_policy="every")
    work_on_the_first_while_others_come(plain_node, images)
    assert [number_in(image) for image in images.taken] == list(range(COUNT))
    assert (images.received, images.dropped, images.lost) == (COUNT, 0, 0)


def test_full_queue_drops_the_oldest_and_counts_them(plain_node, make_input):
    images = make_input(frame_policy="every", queue_images=4)
    work_on_the_first_while_others_come(plain_node, images)
    assert [number_in(image) for image in images.taken] == [0, 3, 4, 5, 6]
    assert (images.received, images.dropped, images.lost) == (COUNT, 2, 0)


@pytest.mark.parametrize("simulated", [False, True])
def test_time_of_arrival_goes_on_also_where_nobody_says_the_simulated_time(
    plain_node, make_input, simulated
):
    plain_node.set_parameters([Parameter("use_sim_time", value=simulated)])
    images = make_input(frame_policy="every")
    before_ns = time.time_ns()
    send(plain_node, images)
    times_ns = [image.arrived_clock_ns for image in images.taken]
    assert before_ns < times_ns[0] < times_ns[-1] < time.time_ns()


def test_stop_takes_nothing_and_start_counts_anew(plain_node, make_input):
    images = make_input(frame_policy="every")
    send(plain_node, images)
    images.stop()
    images.resume()
    send(plain_node, images, 2)
    assert [number_in(image) for image in images.taken[COUNT:]] == [0, 1]
    assert images.received == COUNT + 2
    images.dropped, images.lost = 3, 2
    images.stop()
    images.start()
    assert (images.received, images.dropped, images.lost) == (0, 0, 0)


@pytest.mark.parametrize(
    ("transport", "rules", "topic"),
    [
        ("raw", ["image:=/a/image", "/a/image:=/b/image"], "/a/image"),
        ("compressed", ["image:=/cam/image_raw"], "/cam/image_raw/compressed"),
        ("compressed", ["image/compressed:=/cam/jpeg"], "/cam/jpeg"),
        ("compressed", ["image:=/a", "image/compressed:=/b/jpeg"], "/b/jpeg"),
        ("compressed", [], "/image/compressed"),
    ],
)
def test_the_topic_shown_is_the_one_subscribed(ros, transport, rules, topic):
    arguments = ["--ros-args", *(word for rule in rules for word in ("-r", rule))]
    node = rclpy.create_node("remapped", cli_args=arguments)
    images = ImageInput(node, FaceNodeConfig(image_transport=transport), lambda _: None)
    images.start()
    (subscription,) = node.subscriptions
    assert subscription.topic_name == images.topic == topic
    assert topic in images.silence()
    images.stop()
    node.destroy_node()


@pytest.mark.parametrize(
    ("published", "rule", "advice"),
    [
        (["/cam/compressed", "/cam/zstd"], "", "type: /cam (remap image to one"),
        (["/jpeg"], "", "type: /jpeg (remap image/compressed to one"),
        (["/cam/compressed"], "/a", "type: /cam/compressed (remap image/compressed to one"),
    ],
)
def test_the_advice_on_remapping_leads_to_compressed_images(ros, published, rule, advice):
    rules = ["-r", f"image/compressed:={rule}"] if rule else []
    node = rclpy.create_node("input", cli_args=["--ros-args", *rules])
    camera = rclpy.create_node("camera")
    images = ImageInput(node, FaceNodeConfig(image_transport="compressed"), lambda _: None)
    for topic in published:
        camera.create_publisher(CompressedImage, topic, 1)
    deadline = time.monotonic() + 20
    while not all(node.get_publishers_info_by_topic(topic) for topic in published):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said = images.silence()
    camera.destroy_node()
    node.destroy_node()
    assert advice in said


def test_pictures_of_another_face_node_are_not_advised(ros):
    node = rclpy.create_node("input", namespace="left")
    camera = rclpy.create_node("camera")
    other = rclpy.create_node("face_node", namespace="right")
    images = ImageInput(node, FaceNodeConfig(), lambda _: None)
    published = ("/right/faces/depth", "/right/faces/uv", "/usb/image_raw")
    for publisher, topic in zip((other, other, camera), published, strict=True):
        publisher.create_publisher(Image, topic, 1)
    other.create_publisher(FaceArray, "faces", 1)
    deadline = time.monotonic() + 20
    while not all(node.get_publishers_info_by_topic(t) for t in (*published, "/right/faces")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said = images.silence()
    for opened in (other, camera, node):
        opened.destroy_node()
    assert said.endswith("topics of that type: /usb/image_raw (remap image to one of them)")


def test_the_advice_on_remapping_does_not_lead_to_pictures_of_our_own_or_of_nobody(ros):
    node, viewer = rclpy.create_node("input"), rclpy.create_node("viewer")
    images = ImageInput(node, FaceNodeConfig(), lambda _: None)
    node.create_publisher(Image, "/faces/overlay", 1)
    viewer.create_subscription(Image, "/camera", lambda _: None, 1)
    deadline = time.monotonic() + 20
    while not {"/faces/overlay", "/camera"} <= dict(node.get_topic_names_and_types()).keys():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    said = images.silence()
    viewer.destroy_node()
    node.destroy_node()
    assert said.endswith(" on /image, publishers: none")


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


OVERRIDE = "qos_overrides./image.subscription.reliability"


def hear_a_best_effort_camera(settings, *reliability):
    """Start an input, publish images; how many it gets, and what it says if there are none."""
    overrides = [Parameter(OVERRIDE, value=value) for value in reliability]
    node = rclpy.create_node("input", parameter_overrides=overrides)
    images = ImageInput(node, dataclasses.replace(FaceNodeConfig(), **settings), lambda _: None)
    images.start()
    publisher = node.create_publisher(Image, "image", BEST_EFFORT)
    deadline = time.monotonic() + 20
    while not node.get_publishers_info_by_topic("/image"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(20):
        publisher.publish(Image())
        rclpy.spin_once(node, timeout_sec=0.02)
    images.stop()
    said = images.silence()
    node.destroy_node()
    return images.received, said


@pytest.mark.parametrize(
    ("wrong", "advice", "right"),
    [
        (
            [{"image_reliability": "reliable"}],
            "set image_reliability to best_effort",
            [{"image_reliability": "best_effort"}],
        ),
        (
            [{"frame_policy": "every"}],
            f"start this node with -p {OVERRIDE}:=best_effort, or set frame_policy to latest",
            [{"frame_policy": "every"}, "best_effort"],
        ),
        ([{}, "reliable"], f"start this node without {OVERRIDE}", [{}]),
    ],
)
def test_the_advice_for_a_best_effort_camera_helps(ros, wrong, advice, right):
    received, said = hear_a_best_effort_camera(*wrong)
    assert received == 0
    assert said.endswith(f"reliable subscription: {advice}")
    assert hear_a_best_effort_camera(*right)[0] > 0
