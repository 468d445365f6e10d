"""Who is who after faces have met, on looks and places that are made up and therefore known."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.appearance import (
    ALIKE,
    CONTACT_SIZES,
    SETTLING_FRAMES,
    SIDE,
    Appearances,
    appearance_of,
    unlikeness,
)

FAR, NEAR = 400.0, 40.0
SIZE = 50.0


def look(level, rng=None, noise=0.01):
    rng = rng or np.random.default_rng(0)
    return (level + noise * rng.normal(size=(SIDE, SIDE, 3))).astype(np.float32)


def at(x):
    return np.array([x, 0, x + SIZE, SIZE], np.float32)


def watch(appearances, frames, looks, distance, lost=()):
    """Faces a, b, ... in a row at that distance; what `observe` asked to exchange."""
    asked = []
    for _ in range(frames):
        seen = {name: (at(k * distance), value) for k, (name, value) in enumerate(looks.items())}
        asked += appearances.observe(seen, lost)
    return asked


def test_two_who_took_each_others_place_are_exchanged_once():
    memory = Appearances()
    assert not watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, FAR)
    assert not watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, NEAR)
    assert watch(memory, SETTLING_FRAMES - 1, {"a": look(0.6), "b": look(0.3)}, FAR) == []
    assert watch(memory, 1, {"a": look(0.6), "b": look(0.3)}, FAR) == [("a", "b")]
    # The names have been exchanged now, so each looks again as it did.
    assert watch(memory, 30, {"a": look(0.3), "b": look(0.6)}, FAR) == []
    assert memory.unlikeness("a", look(0.3)) < 0.03
    assert memory.unlikeness("b", look(0.6)) < 0.03


@pytest.mark.parametrize("change", [0.0, 0.04, 0.3])
def test_two_who_part_as_they_were_stay_who_they_are(change):
    """Also when the light changed for both meanwhile."""
    memory = Appearances()
    watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, FAR)
    watch(memory, 10, {"a": look(0.5), "b": look(0.5)}, NEAR)
    parted = {"a": look(0.3 + change), "b": look(0.6 + change)}
    assert watch(memory, SETTLING_FRAMES, parted, FAR) == []
    # In the light that there is now, as the one before was long ago.
    assert memory.unlikeness("a", parted["a"]) < 0.03
    assert watch(memory, 30, parted, FAR) == []


def test_without_a_meeting_nobody_is_exchanged():
    memory = Appearances()
    watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, FAR)
    assert watch(memory, 30, {"a": look(0.6), "b": look(0.3)}, FAR) == []


def test_a_meeting_is_over_once_both_have_been_known_again():
    memory = Appearances()
    watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, FAR)
    watch(memory, 3, {"a": look(0.3), "b": look(0.6)}, NEAR)
    watch(memory, SETTLING_FRAMES + 1, {"a": look(0.3), "b": look(0.6)}, FAR)
    assert watch(memory, 30, {"a": look(0.6), "b": look(0.3)}, FAR) == []


def test_two_alike_are_left_alone():
    memory = Appearances()
    watch(memory, 10, {"a": look(0.40), "b": look(0.42)}, FAR)
    watch(memory, 3, {"a": look(0.40), "b": look(0.42)}, NEAR)
    assert watch(memory, 10, {"a": look(0.42), "b": look(0.40)}, FAR) == []


def test_one_who_slipped_onto_a_face_that_was_lost_takes_its_name():
    memory = Appearances()
    watch(memory, 10, {"a": look(0.3), "b": look(0.6)}, FAR)
    watch(memory, 3, {"a": look(0.3), "b": look(0.6)}, NEAR)
    assert watch(memory, SETTLING_FRAMES, {"a": look(0.6)}, FAR, lost=["b"]) == [("a", "b")]


def test_one_waits_for_the_other_to_be_free_too():
    """b stays near to c for long; meanwhile a, which looks like b, does not learn that look."""
    memory = Appearances()
    watch(memory, 10, {"a": look(0.3), "b": look(0.6), "c": look(0.9)}, FAR)
    watch(memory, 3, {"a": look(0.3), "b": look(0.6), "c": look(0.9)}, NEAR)
    for _ in range(20):
        seen = {"a": (at(-FAR), look(0.6)), "b": (at(0), look(0.3)), "c": (at(NEAR), look(0.9))}
        assert memory.observe(seen, []) == []
    asked = watch(memory, SETTLING_FRAMES, {"a": look(0.6), "b": look(0.3), "c": look(0.9)}, FAR)
    assert asked == [("a", "b")]


def test_a_look_that_changes_slowly_is_learned():
    memory = Appearances()
    for level in np.linspace(0.3, 0.8, 100):
        watch(memory, 1, {"a": look(level), "b": look(0.3)}, FAR)
    assert memory.unlikeness("a", look(0.8)) < 0.08
    memory.keep_only(["b"])
    assert memory.unlikeness("a", look(0.8)) is None
    assert memory.unlikeness("b", None) is None


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0, 1), min_size=4, max_size=4),
            st.lists(st.floats(0, 600), min_size=4, max_size=4),
        ),
        max_size=25,
    ),
    st.sets(st.sampled_from("abcd")),
)
def test_no_face_is_in_two_exchanges_and_only_known_names_are(frames, lost):
    memory = Appearances()
    for levels, places in frames:
        names = [name for name in "abcd" if name not in lost]
        seen = {n: (at(x), look(v)) for n, v, x in zip(names, levels, places, strict=False)}
        pairs = memory.observe(seen, lost)
        named = [name for pair in pairs for name in pair]
        assert len(named) == len(set(named))
        assert set(named) <= set("abcd")
        assert all(first in seen for first, _ in pairs)


def test_contact_is_measured_in_sizes():
    for scale in (0.1, 1.0, 20.0):
        memory = Appearances()
        apart = CONTACT_SIZES * SIZE * 1.05
        for _ in range(8):
            seen = {"a": (at(0) * scale, look(0.2)), "b": (at(apart) * scale, look(0.8))}
            memory.observe(seen, [])
        assert memory.unlikeness("a", look(0.2)) is not None


def test_appearance_is_the_small_picture_whatever_its_size(astronaut):
    face = np.array([180.0, 65.0, 265.0, 160.0])
    small = appearance_of(astronaut, face)
    assert small.shape == (SIDE, SIDE, 3)
    assert small.dtype == np.float32
    expected = cv2.resize(astronaut[65:160, 180:265], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert unlikeness(small, expected / np.float32(255)) < 0.01
    twice = cv2.resize(astronaut, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    assert unlikeness(small, appearance_of(twice, 2 * face)) < ALIKE / 2
    elsewhere = appearance_of(astronaut, face + np.array([150, 200, 150, 200]))
    assert unlikeness(small, elsewhere) > 0.1


@pytest.mark.parametrize(
    "bounds",
    [(-90, 10, -5, 90), (600, 10, 700, 90), (10, 10, 14, 90), (1e30, 0, 2e30, 9), (50, 50, 40, 40)],
)
def test_nothing_is_seen_outside_the_image(astronaut, bounds):
    assert appearance_of(astronaut, np.array(bounds, np.float64)) is None
