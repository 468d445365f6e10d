"""A running face node under bad input, service calls and changing parameters."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.raw_image import ImageHeader, decode_image, encode_image


def header_of(number):
    return ImageHeader(100 + number // 30, number % 30 * 33_333_333, f"frame_{number}")


def bad_messages(photo):
    """Every kind of image that cannot be used."""
    small = Image(height=4, width=4, step=12, encoding="bgr8")
    small.data = bytes(48)
    for name, value in {
        "step": 5,
        "height": 400,
        "width": 10**9,
        "encoding": "nonsense",
    }.items():
        broken = Image(height=4, width=4, step=12, encoding="bgr8")
        broken.data = bytes(48)
        setattr(broken, name, value)
        yield f"{name}={value}", serialize_message(broken)
    yield "empty", serialize_message(Image())
    yield "cut off", encode_image(photo, header_of(0))[:2000]


def usable_messages():
    """Odd images that hold no face but are images."""
    yield "1x1", encode_image(np.zeros((1, 1, 3), np.uint8), header_of(0))
    yield "1 row", encode_image(np.zeros((1, 999, 3), np.uint8), header_of(0))
    nan = np.full((90, 120), np.nan, np.float32)
    yield "NaN", encode_image(nan, header_of(0), "32FC1", channels=1)
    grey16 = np.full((90, 120), 30000, np.uint16)
    yield "mono16", encode_image(grey16, header_of(0), "mono16", channels=1)
    bayer = np.full((90, 120), 77, np.uint8)
    yield "bayer", encode_image(bayer, header_of(0), "bayer_rggb8", channels=1)
    yield "no face", encode_image(np.full((480, 640, 3), 128, np.uint8), header_of(0))


class Conversation:
    """Sends images one by one and waits for the answer to each."""

    def __init__(self, probe, topic="image", message_type=Image):
        self.probe = probe
        self.answers = probe.messages(FaceArray, "faces")
        self.publisher = probe.publisher(message_type, topic)
        self.greet()

    def greet(self):
        """Until discovery has matched all four ends, messages are lost: repeat until answered."""
        pixels = np.full((8, 8, 3), 128, np.uint8)
        if self.publisher.msg_type is Image:
            greeting = encode_image(pixels, ImageHeader(0, 0, "greeting"))
        else:
            greeting = CompressedImage(format="png")
            greeting.data = cv2.imencode(".png", pixels)[1].tobytes()
        deadline = time.monotonic() + 30
        while not self.answers:
            assert time.monotonic() < deadline, "no answer at all"
            self.publisher.publish(greeting)
            self.probe.spin_for(0.3)
        self.probe.spin_for(0.7)
        self.answers.clear()

    def ask(self, message):
        count = len(self.answers)
        self.publisher.publish(message)
        self.probe.spin_until(lambda: len(self.answers) > count, "faces")
        return self.answers[-1]


def test_bad_images_are_left_out_and_the_node_goes_on(world, probe, tddfa_v2_set, astronaut):
    world.environment["ROS_PYTHON_CHECK_FIELDS"] = "1"
    node = world.face_node(tddfa_v2_set, image_reliability="reliable")
    conversation = Conversation(probe)
    number = 0
    for what, message in bad_messages(astronaut):
        conversation.publisher.publish(message)
        time.sleep(0.1)
        number += 1
        answer = conversation.ask(encode_image(astronaut, header_of(number)))
        assert len(answer.faces) == 1, what
        assert answer.header.frame_id == f"frame_{number}", what
    for what, message in usable_messages():
        answer = conversation.ask(message)
        assert answer.faces == [], what
        number += 1
        answer = conversation.ask(encode_image(astronaut, header_of(number)))
        assert len(answer.faces) == 1, what
    assert len(conversation.answers) == number + len(list(usable_messages()))
    assert node.output.count("image left out") >= 1
    assert "Traceback" not in node.output
    assert node.stop() == 0


def test_compressed_images(world, probe, tddfa_v2_set, astronaut):
    world.face_node(tddfa_v2_set, image_transport="compressed", image_reliability="reliable")
    conversation = Conversation(probe, "image/compressed", CompressedImage)
    for quality in (".png", ".jpg"):
        message = CompressedImage(format=quality[1:])
        message.header = header_of(3).message()
        message.data = cv2.imencode(quality, astronaut)[1].tobytes()
        answer = conversation.ask(message)
        assert len(answer.faces) == 1
        assert answer.header == header_of(3).message()
        broken = CompressedImage(format="jpeg")
        broken.data = b"no jpeg"
        conversation.publisher.publish(broken)
        time.sleep(0.1)


def test_overlay_is_the_image_with_something_drawn(world, probe, tddfa_v2_set, astronaut):
    world.face_node(tddfa_v2_set, image_reliability="reliable", overlay="box")
    conversation = Conversation(probe)
    overlays = probe.messages(Image, "faces/overlay", depth=1)
    deadline = time.monotonic() + 30
    while not overlays:
        assert time.monotonic() < deadline, "no overlay"
        conversation.ask(encode_image(astronaut, header_of(5)))
        probe.spin_for(0.2)
    header, drawn = decode_image(serialize_message(overlays[0]))
    assert header == header_of(5)
    changed = np.argwhere((drawn != astronaut).any(axis=2))
    left, top, right, bottom = conversation.answers[-1].faces[0].box_xyxy
    # Only the rectangle is drawn: all changes lie near it, and it is closed.
    y, x = changed[:, 0], changed[:, 1]
    np.testing.assert_allclose(
        [x.min(), y.min(), x.max(), y.max()], [left, top, right, bottom], atol=3
    )
    inside = (x > left + 3) & (x < right - 3) & (y > top + 3) & (y < bottom - 3)
    assert not inside.any()


def parameter(name, value):
    kinds = {
        float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
        str: (ParameterType.PARAMETER_STRING, "string_value"),
    }
    kind, field = kinds[type(value)]
    return ParameterMessage(name=name, value=ParameterValue(type=kind, **{field: value}))


def test_services_and_parameters_while_images_flow(world, probe, tddfa_v2_set, astronaut):
    world.face_node(tddfa_v2_set, image_reliability="reliable")
    conversation = Conversation(probe)

    def set_parameter(name, value):
        (answer,) = probe.call(
            SetParameters, "/face_node/set_parameters", parameters=[parameter(name, value)]
        ).results
        return answer

    first = conversation.ask(encode_image(astronaut, header_of(0))).faces[0].id
    assert conversation.ask(encode_image(astronaut, header_of(1))).faces[0].id == first
    # Reset: the same face is a new one.
    assert probe.call(Trigger, "/face_node/reset").success
    second = conversation.ask(encode_image(astronaut, header_of(2))).faces[0].id
    assert second != first
    # A parameter that nothing meets: no face; and back.
    assert set_parameter("smoothing", "none").successful
    assert len(conversation.ask(encode_image(astronaut, header_of(3))).faces) == 1
    refused = set_parameter("smoothing", "much")
    assert not refused.successful
    assert "one-euro" in refused.reason
    refused = set_parameter("frame_policy", "every")
    assert not refused.successful
    assert "cannot change while" in refused.reason
    # Disabled: no answer; enabled: answers again.
    assert probe.call(SetBool, "/face_node/enable", data=False).success
    probe.spin_until(lambda: conversation.publisher.get_subscription_count() == 0, "silence")
    count = len(conversation.answers)
    conversation.publisher.publish(encode_image(astronaut, header_of(4)))
    time.sleep(0.3)
    assert probe.call(SetBool, "/face_node/enable", data=True).success
    probe.spin_until(lambda: conversation.publisher.get_subscription_count() == 1, "a subscriber")
    assert len(conversation.answers) == count
    conversation.greet()
    answer = conversation.ask(encode_image(astronaut, header_of(5)))
    assert answer.header == header_of(5).message()


def test_lifecycle_from_outside(world, probe, tddfa_v2_set, astronaut):
    node = world.node(
        "face_node", model_set=str(tddfa_v2_set), autostart=False, image_reliability="reliable"
    )

    def state():
        return probe.call(GetState, "/face_node/get_state").current_state.label

    def change(label):
        request = ChangeState.Request().transition
        request.label = label
        return probe.call(ChangeState, "/face_node/change_state", transition=request).success

    assert state() == "unconfigured"
    for _ in range(2):
        assert change("configure")
        assert state() == "inactive"
        assert change("activate")
        conversation = Conversation(probe)
        assert len(conversation.ask(encode_image(astronaut, header_of(1))).faces) == 1
        assert change("deactivate")
        assert change("cleanup")
        assert state() == "unconfigured"
        probe.node.destroy_publisher(conversation.publisher)
    assert node.stop() == 0, node.output


def values_of(diagnostics):
    status = diagnostics.status[0]
    return {entry.key: entry.value for entry in status.values}


def test_diagnostics_tell_rates_and_silence(world, probe, tddfa_v2_set, astronaut):
    world.face_node(tddfa_v2_set, image_reliability="reliable", diagnostics_period_s=0.3)
    told = probe.messages(DiagnosticArray, "/diagnostics")
    probe.spin_until(lambda: told, "diagnostics")
    assert told[-1].status[0].message.startswith("no image for ")
    assert told[-1].status[0].message.endswith(" s on /image, publishers: none")
    assert told[-1].status[0].level == b"\1"
    conversation = Conversation(probe)
    told.clear()
    probe.spin_until(lambda: told, "diagnostics")
    before = int(values_of(told[-1])["images processed"])
    for number in range(12):
        conversation.ask(encode_image(astronaut, header_of(number)))
    told.clear()
    probe.spin_until(lambda: told, "diagnostics")
    assert told[-1].status[0].name == "face_node: images"
    values = values_of(told[-1])
    assert int(values["images processed"]) == before + 12
    assert values["images failed"] == values["images dropped"] == "0"
    assert float(values["total p50 [ms]"]) > float(values["decode p50 [ms]"]) > 0


def test_a_slow_camera_is_not_taken_for_a_silent_one(world, probe, repository, astronaut):
    world.face_node(
        repository / "models" / "embedded", image_reliability="reliable", diagnostics_period_s=0.1
    )
    told = probe.messages(DiagnosticArray, "/diagnostics")
    conversation = Conversation(probe)
    for number in range(7):
        conversation.ask(encode_image(astronaut, header_of(number)))
        if number == 1:
            told.clear()
        probe.spin_for(0.4)
    assert len(told) > 10
    assert {array.status[0].message for array in told} == {"processing images"}
    told.clear()
    probe.spin_until(lambda: told and "no image for " in told[-1].status[0].message, "silence")


@pytest.mark.parametrize("what", ["publisher", "face_node"])
def test_who_is_killed_comes_back(world, probe, tddfa_v2_set, astronaut, what):
    node = world.face_node(tddfa_v2_set, image_reliability="reliable")
    conversation = Conversation(probe)
    assert conversation.ask(encode_image(astronaut, header_of(0))).faces
    if what == "publisher":
        probe.node.destroy_publisher(conversation.publisher)
        conversation.publisher = probe.publisher(Image, "image")
    else:
        node.stop(9)
        world.face_node(tddfa_v2_set, image_reliability="reliable")
    count = len(conversation.answers)

    def answered():
        conversation.publisher.publish(encode_image(astronaut, header_of(1)))
        return len(conversation.answers) > count

    probe.spin_until(answered, "faces after the return")
    assert conversation.answers[-1].faces
