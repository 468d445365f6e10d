"""Parameters of a face node that change while images flow."""

from __future__ import annotations

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.raw_image import ImageHeader, decode_image, encode_image


class Stream:
    """Images with numbers as their stamps, answered one by one."""

    def __init__(self, probe, photo):
        self.probe = probe
        self.photo = photo
        self.number = 0
        self.faces = probe.messages(FaceArray, "faces")
        self.overlays = probe.messages(Image, "faces/overlay")
        self.images = probe.publisher(Image, "image")

    def next(self):
        """Send an image again and again until faces and overlay of one of them came."""
        first = self.number + 1

        def answered():
            self.number += 1
            self.images.publish(encode_image(self.photo, ImageHeader(self.number, 0, "")))
            self.probe.spin_for(0.1)
            return self.common(first)

        self.probe.spin_until(answered, "faces and overlay")
        return self.common(first)

    def common(self, first):
        faces = {m.header.stamp.sec: m for m in self.faces if m.header.stamp.sec >= first}
        for overlay in self.overlays:
            if overlay.header.stamp.sec in faces:
                _, drawn = decode_image(serialize_message(overlay))
                return faces[overlay.header.stamp.sec], drawn
        return None

    def set(self, **values):
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        return self.probe.call(
            SetParameters, "/face_node/set_parameters", parameters=parameters
        ).results


@pytest.fixture
def stream(world, probe, tddfa_v2_set, astronaut):
    world.face_node(tddfa_v2_set, image_reliability="reliable", overlay="box", smoothing="none")
    return Stream(probe, astronaut)


def changed_pixels(drawn, photo):
    return int((drawn != photo).any(axis=2).sum())


def test_overlay_threshold_and_smoothing_change_at_once(stream, probe, astronaut):
    _, box = stream.next()
    assert all(answer.successful for answer in stream.set(overlay="landmarks,pose,box,id"))
    faces, everything = stream.next()
    assert changed_pixels(everything, astronaut) > 2 * changed_pixels(box, astronaut)
    assert len(faces.faces) == 1
    # A threshold that no face meets keeps new faces from being found.
    assert stream.set(detection_threshold=0.99999)[0].successful
    assert probe.call(Trigger, "/face_node/reset").success
    faces, plain = stream.next()
    assert faces.faces == []
    np.testing.assert_array_equal(plain, astronaut)
    assert stream.set(detection_threshold=0.0)[0].successful
    assert len(stream.next()[0].faces) == 1
    assert stream.set(smoothing="one-euro", one_euro_beta=5.0)[0].successful
    assert len(stream.next()[0].faces) == 1


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("overlay", "box,hat", "hat"),
        ("detection_threshold", 1.5, "detection_threshold"),
        ("smoothing", "much", "one-euro"),
        ("max_faces", 0, "max_faces"),
        ("model_set", "another", "model_set cannot change while the node is configured"),
        ("image_transport", "compressed", "deactivate it if it is active, clean it up"),
    ],
)
def test_refused_with_the_reason(stream, astronaut, name, value, reason):
    (answer,) = stream.set(**{name: value})
    assert not answer.successful
    assert reason in answer.reason
    assert len(stream.next()[0].faces) == 1
