"""CDR bytes of our own against rclpy's reading of them."""

import numpy as np
import pytest
from geometry_msgs.msg import Polygon, PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from rcl_interfaces.msg import Log
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from tddfa_ros.nodes.cdr import CdrWriter

UINT32 = st.integers(0, 2**32 - 1)


@given(UINT32, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), UINT32)
def test_strings_and_numbers_are_aligned(nanosec, text, line):
    writer = CdrWriter()
    writer.numbers("i", -3)
    writer.numbers("I", nanosec)
    writer.numbers("B", 20)
    for string in (text, "msg", ""):
        writer.string(string)
    writer.string("f")
    writer.numbers("I", line)
    message = deserialize_message(writer.finish(), Log)
    assert (message.stamp.sec, message.stamp.nanosec, message.level) == (-3, nanosec, 20)
    assert (message.name, message.msg, message.file) == (text, "msg", "")
    assert (message.function, message.line) == ("f", line)


@given(st.lists(st.floats(width=64, allow_nan=False), max_size=5), st.text("ab", max_size=9))
def test_sequences_of_doubles_are_aligned_to_eight_bytes(values, name):
    writer = CdrWriter()
    writer.numbers("i", 0, 0)
    writer.string("")
    writer.numbers("I", 1)
    writer.string(name)
    for sequence in (values, [], values):
        writer.sequence(np.array(sequence, np.float64))
    message = deserialize_message(writer.finish(), JointState)
    assert list(message.name) == [name]
    assert list(message.position) == list(message.effort) == values
    assert len(message.velocity) == 0


@given(st.integers(-(2**31), 2**31 - 1), UINT32, st.text("ab", max_size=9), UINT32)
def test_a_header_is_read_as_one(sec, nanosec, frame_id, height):
    writer = CdrWriter()
    writer.header(sec, nanosec, frame_id)
    writer.numbers("I", height, 0)
    writer.string("")
    writer.numbers("B", 0)
    writer.numbers("I", 0, 0)  # step, and no bytes
    message = deserialize_message(writer.finish(), Image)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (sec, nanosec)
    assert (message.header.frame_id, message.height) == (frame_id, height)


def test_rows_are_messages():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    for given_rows in (rows, np.asfortranarray(rows)):
        writer = CdrWriter()
        writer.sequence(given_rows)
        message = deserialize_message(writer.finish(), Polygon)
        np.testing.assert_array_equal([(p.x, p.y, p.z) for p in message.points], rows)


@given(st.text("ab", max_size=9), st.lists(st.floats(width=64), min_size=4, max_size=4))
def test_arrays_of_fixed_size_are_aligned_and_have_no_count(name, values):
    writer = CdrWriter()
    writer.numbers("i", 1)
    writer.numbers("I", 2)
    writer.string(name)
    writer.array([1, 2, 3], np.float64, 3)
    writer.array(values, np.float64, 4)
    message = deserialize_message(writer.finish(), PoseStamped)
    assert message.header.frame_id == name
    position, turn = message.pose.position, message.pose.orientation
    assert (position.x, position.y, position.z) == (1, 2, 3)
    np.testing.assert_array_equal([turn.x, turn.y, turn.z, turn.w], values)


def test_arrays_of_another_size_are_refused():
    with pytest.raises(ValueError, match="not an array of 5 numbers"):
        CdrWriter().array(np.zeros((2, 2)), np.float32, 5)


def test_text_that_is_not_ascii():
    writer = CdrWriter()
    writer.string("Gesicht ä 顔")
    assert deserialize_message(writer.finish(), String).data == "Gesicht ä 顔"


def test_big_endian_rows_are_refused():
    with pytest.raises(ValueError, match="little-endian"):
        CdrWriter().sequence(np.zeros(3, ">f4"))
