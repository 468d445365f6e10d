"""Who cannot hear whom is said, in real processes; the standard overrides work."""

from __future__ import annotations

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
PERIOD_S = 0.2


def status_of(told, what):
    return next(s for s in told[-1].status if s.name.endswith(what))


def await_message(probe, told, what, *texts):
    """Wait until a status has all of the texts in its message."""

    def found():
        return told and all(text in status_of(told, what).message for text in texts)

    probe.spin_until(found, f"{texts}; last: {told[-1:]}")
    return status_of(told, what)


@pytest.fixture
def watched(world, probe, tddfa_v2_set):
    """Start a face node; it and its diagnostics."""

    def start(*arguments, **parameters):
        node = world.face_node(
            tddfa_v2_set, *arguments, diagnostics_period_s=PERIOD_S, **parameters
        )
        return node, probe.messages(DiagnosticArray, "/diagnostics")

    return start


def test_best_effort_camera_for_a_node_that_asks_reliable(watched, probe, astronaut):
    node, told = watched(image_reliability="reliable")
    publisher = probe.node.create_publisher(Image, "image", BEST_EFFORT)
    for _ in range(5):
        publisher.publish(encode_image(astronaut, ImageHeader(0, 0, "")))
        probe.spin_for(0.1)
    status = await_message(
        probe, told, "images", " s on /image, publishers: /probe (best_effort, volatile)"
    )
    assert "does not fit: " in status.message
    assert "reliable subscription" in status.message
    assert "set image_reliability to best_effort" in status.message
    assert status.level == b"\1"
    node.await_output("does not fit")
    probe.spin_for(10 * PERIOD_S)
    # Throttled: one line at the event and one from the diagnostics at most.
    assert node.output.count("does not fit") <= 2


def test_wrong_type_and_wrong_name_are_named(watched, probe, astronaut):
    _, told = watched()
    probe.node.create_publisher(Image, "front/image_raw", 1)
    status = await_message(probe, told, "images", "publishers: none", "/front/image_raw")
    assert "remap" in status.message
    probe.node.create_publisher(CompressedImage, "image", 1)
    await_message(
        probe, told, "images", "/probe (reliable, volatile) sends sensor_msgs/msg/CompressedImage"
    )


def test_silence_ends_with_images_and_begins_anew(watched, probe, astronaut):
    _, told = watched(image_reliability="reliable")
    publisher = probe.publisher(Image, "image")
    await_message(probe, told, "images", "no image for", "/probe (reliable, volatile)")

    def flowing():
        # Slowly: an image that another one overtakes in the queue counts as lost, rightly.
        publisher.publish(encode_image(astronaut, ImageHeader(5, 0, "")))
        probe.spin_for(0.3)
        return status_of(told, "images").level == b"\0"

    probe.spin_until(flowing, "images")
    values = {v.key: v.value for v in status_of(told, "images").values}
    assert values["image publishers"] == "1"
    assert values["images lost on the way"] == "0"
    assert values["stamp age on arrival"].startswith("unknown")
    await_message(probe, told, "images", "no image for 1 s")


def test_stamp_age_is_the_way_from_camera_to_node(watched, probe, astronaut):
    _, told = watched(image_reliability="reliable")
    publisher = probe.publisher(Image, "image")
    age_s = 0.5

    def known():
        stamp_ns = time.time_ns() - round(age_s * 1e9)
        publisher.publish(encode_image(astronaut, ImageHeader(*divmod(stamp_ns, 10**9), "")))
        probe.spin_for(0.05)
        values = {v.key: v.value for v in status_of(told, "images").values} if told else {}
        return float(values.get("stamp age on arrival p50 [ms]", 0.0))

    probe.spin_until(known, "the age")
    assert age_s * 1e3 <= known() <= age_s * 1e3 + 200


def test_subscriber_that_asks_more_than_is_offered(watched, probe):
    node, told = watched("-p", "qos_overrides./faces.publisher.reliability:=best_effort")
    heard = []
    subscription = probe.node.create_subscription(FaceArray, "faces", heard.append, 10)
    status = await_message(probe, told, "outputs", "/probe gets nothing of /faces")
    assert status.level == b"\1"
    node.await_output("/probe gets nothing of /faces: ")
    probe.node.destroy_subscription(subscription)
    status = await_message(probe, told, "outputs", "every subscriber is served")
    assert status.level == b"\0"


def test_override_of_the_subscription_beats_the_parameter(watched, probe, astronaut):
    """Asked reliable by parameter, best effort by override: a best-effort camera is heard."""
    name = "qos_overrides./image.subscription.reliability"
    watched("-p", f"{name}:=best_effort", image_reliability="reliable")
    faces = probe.messages(FaceArray, "faces")
    publisher = probe.node.create_publisher(Image, "image", BEST_EFFORT)

    def answered():
        publisher.publish(encode_image(astronaut, ImageHeader(5, 0, "here")))
        probe.spin_for(0.1)
        return faces

    probe.spin_until(answered, "faces")
    assert faces[0].header == Header(stamp=faces[0].header.stamp, frame_id="here")
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="reliable")
    (refused,) = probe.call(
        SetParameters,
        "/face_node/set_parameters",
        parameters=[ParameterMessage(name=name, value=value)],
    ).results
    assert not refused.successful
    assert "is read at start" in refused.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("/image.subscription.reliability", "nonsense"),
        ("/image.subscription.depth", "0"),
        ("/faces.publisher.reliability", "nonsense"),
    ],
)
def test_impossible_override_is_one_clear_error(world, tddfa_v2_set, name, value):
    override = f"qos_overrides.{name}:={value}"
    node = world.node("face_node", "-p", override, model_set=str(tddfa_v2_set))
    assert node.wait(60) == 1
    assert node.output.count("[ERROR]") == 1
    assert value in node.output
    assert "Traceback" not in node.output
