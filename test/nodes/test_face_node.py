import threading
import time

import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from tddfa_native.rasterize import LARGEST_SIDE
from visualization_msgs.msg import Marker, MarkerArray

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.image_input import IncomingImage
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

SUCCESS = TransitionCallbackReturn.SUCCESS


def state_of(node):
    return node._state_machine.current_state[1]


def entities_of(node):
    own = {"faces", "raw", "overlay", "diagnostics", "image"}
    publishers = [p.topic_name for p in node.publishers if p.topic_name.split("/")[-1] in own]
    subscriptions = [s.topic_name for s in node.subscriptions if s.topic_name == "/image"]
    return sorted(publishers), subscriptions


def test_autostart_brings_it_to_active(make_face_node):
    node = make_face_node()
    assert state_of(node) == "unconfigured"
    assert node.start()
    assert state_of(node) == "active"
    publishers, subscriptions = entities_of(node)
    assert publishers == ["/diagnostics", "/faces", "/faces/overlay", "/faces/raw"]
    assert subscriptions == ["/image"]
    threads = threading.active_count()
    node.close()
    assert threading.active_count() <= threads


def test_it_closes_after_ros_was_shut_down(make_face_node, astronaut):
    """As by Ctrl-C, where somebody's own program spins it."""
    threads = threading.active_count()
    node = make_face_node(smoothing="window")
    node.start()
    for number in range(4):
        data = encode_image(astronaut, ImageHeader(1, number * 33_000_000, "camera"))
        node._worker.take(IncomingImage(data, 0, number * 33_000_000, 0))
    rclpy.shutdown()
    node.close()
    assert node._pipeline is None
    assert threading.active_count() <= threads


def test_without_autostart_it_waits(make_face_node):
    node = make_face_node(autostart=False)
    assert node.start()
    assert state_of(node) == "unconfigured"
    assert entities_of(node) == ([], [])


def test_cycles_leave_nothing_behind(make_face_node):
    node = make_face_node(autostart=False)
    threads = threading.active_count()
    for _ in range(3):
        assert node.trigger_configure() == SUCCESS
        # Networks and publishers are there, but no image is taken.
        assert entities_of(node) == (["/faces", "/faces/overlay", "/faces/raw"], [])
        for _ in range(2):
            assert node.trigger_activate() == SUCCESS
            assert entities_of(node)[1] == ["/image"]
            assert node.trigger_deactivate() == SUCCESS
            assert entities_of(node)[1] == []
        assert node.trigger_cleanup() == SUCCESS
        assert entities_of(node) == ([], [])
        assert threading.active_count() == threads


@pytest.mark.parametrize("steps", ["", "c", "ca"])
def test_shutdown_from_every_state(make_face_node, steps):
    node = make_face_node(autostart=False)
    for step in steps:
        assert {"c": node.trigger_configure, "a": node.trigger_activate}[step]() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    assert state_of(node) == "finalized"
    assert entities_of(node) == ([], [])


def test_missing_model_set_can_be_mended(make_face_node, tddfa_v2_set, tmp_path):
    node = make_face_node(model_set=str(tmp_path / "absent"))
    assert not node.start()
    assert state_of(node) == "unconfigured"
    assert node.run(threading.Event()) == 1
    node.set_parameters([Parameter("model_set", value=str(tddfa_v2_set))])
    assert node.trigger_configure() == SUCCESS


def test_fixed_parameters_change_through_a_cycle(make_face_node):
    node = make_face_node()
    node.start()
    (answer,) = node.set_parameters([Parameter("frame_policy", value="every")])
    assert not answer.successful
    assert "frame_policy cannot change while the node is configured" in answer.reason
    node.trigger_deactivate()
    node.trigger_cleanup()
    (answer,) = node.set_parameters([Parameter("frame_policy", value="every")])
    assert answer.successful
    assert node.start()


@pytest.mark.parametrize(
    ("name", "value"),
    [("smoothing", "none"), ("detection_interval_s", 2.0), ("overlay", "box"), ("max_faces", 3)],
)
def test_runtime_parameters_change_while_active(make_face_node, name, value):
    node = make_face_node()
    node.start()
    (answer,) = node.set_parameters([Parameter(name, value=value)])
    assert answer.successful, answer.reason
    assert node.get_parameter(name).value == value


def test_a_set_of_parameters_that_is_refused_has_no_effect(make_face_node):
    """rclpy asks several who may refuse, and the first to be asked must not act already."""
    node = make_face_node()
    node.start()
    values = {"max_faces": 2, "qos_overrides./image.subscription.depth": 4}
    answer = node.set_parameters_atomically([Parameter(n, value=v) for n, v in values.items()])
    assert not answer.successful
    assert node.get_parameter("max_faces").value == 10
    assert node._pipeline._config.max_faces == 10


def test_a_transition_that_is_not_there_is_refused(make_face_node):
    """rclpy raises, which would end the process."""
    node = make_face_node()
    node.start()
    node.trigger_deactivate()

    def ask(number):
        request = ChangeState.Request(transition=Transition(id=number))
        return node._service_change_state.callback(request, ChangeState.Response()).success

    for impossible in (0, 1, 4, 5, 99):
        assert not ask(impossible)
        assert state_of(node) == "inactive"
    assert ask(Transition.TRANSITION_ACTIVATE)
    assert state_of(node) == "active"


@pytest.mark.parametrize(
    "override",
    [
        ("faces.publisher.depth", "abc"),
        ("faces.publisher.history", "abc"),
        ("image.subscription.depth", "abc"),
        ("image.subscription.depth", 10**12),
        ("image.subscription.reliability", "abc"),
    ],
)
def test_a_wrong_override_fails_each_configure_alike(make_face_node, override):
    name, value = override
    node = make_face_node(**{f"qos_overrides./{name}": value})
    published = [publisher.topic_name for publisher in node.publishers]
    for _ in range(2):
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert state_of(node) == "unconfigured"
        assert [publisher.topic_name for publisher in node.publishers] == published


@pytest.mark.parametrize(
    "override",
    [
        ("camera_info.subscription.depth", "abc"),
        ("camera_info.subscription.depth", 10**12),
        ("camera_info.subscription.reliability", "abc"),
        ("diagnostics.publisher.depth", "abc"),
        ("diagnostics.publisher.history", "abc"),
    ],
)
def test_a_wrong_override_of_what_comes_later_fails_the_activation(make_face_node, override, capfd):
    name, value = override
    node = make_face_node(**{f"qos_overrides./{name}": value})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    for _ in range(2):
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert state_of(node) == "inactive"
    told = capfd.readouterr().err
    assert "cannot activate" in told and name.split(".")[0] in told
    assert "Traceback" not in told
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS


def test_reset_publishes_what_a_window_held_back(make_face_node, astronaut):
    node = make_face_node(smoothing="window", window_after=5)
    node.start()
    for number in range(8):
        data = encode_image(astronaut, ImageHeader(0, number * 33_000_000, "camera"))
        node._worker.take(IncomingImage(data, 0, number * 33_000_000, 0))
    assert node._worker.processed == 3
    assert node._on_reset(Trigger.Request(), Trigger.Response()).success
    assert node._worker.processed == 8


def test_an_output_that_fails_takes_no_faces_along(make_face_node, plain_node):
    """Of images that a window held back, none of which can be drawn."""
    node = make_face_node(smoothing="window", window_after=3)
    node.start()
    answers = []
    plain_node.create_subscription(FaceArray, "faces", answers.append, 50)
    plain_node.create_subscription(Image, "faces/normals", answers.append, 1)
    deadline = time.monotonic() + 20
    while not (node.count_subscribers("faces") and node.count_subscribers("faces/normals")):
        assert time.monotonic() < deadline
    time.sleep(0.3)  # matched, too
    wide = np.zeros((4, LARGEST_SIDE + 1, 3), np.uint8)
    for number in range(3):
        data = encode_image(wide, ImageHeader(0, number * 33_000_000, "camera"))
        node._worker.take(IncomingImage(data, 0, number * 33_000_000, 0))
    assert node._on_reset(Trigger.Request(), Trigger.Response()).success
    while len(answers) < 3:
        assert time.monotonic() < deadline
        rclpy.spin_once(plain_node, timeout_sec=0.05)
    assert [answer.header.stamp.nanosec for answer in answers] == [0, 33_000_000, 66_000_000]
    assert (node._worker.processed, node._worker.failed) == (0, 3)


def test_disabled_it_answers_what_it_held_back_and_shows_no_face(
    make_face_node, plain_node, astronaut
):
    node = make_face_node(smoothing="window", window_after=5)
    node.start()
    answers, markers = [], []
    plain_node.create_subscription(FaceArray, "faces", answers.append, 50)
    plain_node.create_subscription(MarkerArray, "faces/markers", markers.append, 50)

    def see(*numbers):
        for number in numbers:
            data = encode_image(astronaut, ImageHeader(0, number * 33_000_000, "camera"))
            node._worker.take(IncomingImage(data, 0, number * 33_000_000, 0))

    def enable(data):
        assert node._on_enable(SetBool.Request(data=data), SetBool.Response()).success

    def await_that(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            rclpy.spin_once(plain_node, timeout_sec=0.05)

    await_that(lambda: node.count_subscribers("faces") and node.count_subscribers("faces/markers"))
    time.sleep(0.3)
    see(*range(8))
    enable(False)
    await_that(lambda: len(answers) == 8)
    await_that(lambda: markers and markers[-1].markers[0].action == Marker.DELETEALL)
    assert markers[-1].markers[0].header.frame_id == "camera"
    # One that had come already when it was disabled.
    see(8)
    enable(True)
    see(*range(9, 15))
    await_that(lambda: len(answers) == 9)
    assert answers[-1].header.stamp.nanosec == 9 * 33_000_000
    assert {face.id for answer in answers for face in answer.faces} == {"f00001"}
    assert node._worker.processed == 9


def test_no_id_is_given_twice_through_whatever_transitions(make_face_node, astronaut):
    node = make_face_node()
    node.start()
    ids = []

    def see():
        data = encode_image(astronaut, ImageHeader(0, 0, "camera"))
        node._worker.take(IncomingImage(data, 0, 0, 0))
        ids.extend(track.id for track in node._pipeline._tracker.active)

    see()
    for steps in (["deactivate", "activate"], ["deactivate", "cleanup", "configure", "activate"]):
        for step in steps:
            assert getattr(node, f"trigger_{step}")() == SUCCESS
        see()
    assert ids == ["f00001", "f00002", "f00003"]


def test_compressed_topic_follows_a_remapped_image_topic(make_face_node):
    node = make_face_node(image_transport="compressed")
    node.start()
    assert [s.topic_name for s in node.subscriptions if "image" in s.topic_name] == [
        "/image/compressed"
    ]


def test_reset_says_whether_it_could(make_face_node):
    node = make_face_node()
    answer = node._on_reset(Trigger.Request(), Trigger.Response())
    assert not answer.success
    node.start()
    assert node._on_reset(Trigger.Request(), Trigger.Response()).success


def test_disabled_it_does_not_subscribe(make_face_node, capfd):
    node = make_face_node()
    node.start()
    for enabled in (False, False, True, True):
        request = SetBool.Request(data=enabled)
        assert node._on_enable(request, SetBool.Response()).success
        assert entities_of(node)[1] == (["/image"] if enabled else [])
    # It stays disabled through a lifecycle cycle.
    node._on_enable(SetBool.Request(data=False), SetBool.Response())
    node.trigger_deactivate()
    answer = node._on_enable(SetBool.Request(data=False), SetBool.Response())
    assert answer.message == "images are not subscribed, once the node is active"
    capfd.readouterr()
    node.trigger_activate()
    assert entities_of(node)[1] == []
    told = capfd.readouterr().err
    assert "disabled by ~/enable" in told
    assert "waiting for images" not in told
