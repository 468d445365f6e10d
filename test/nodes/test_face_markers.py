"""What a viewer shows follows the faces: numbers, rate, removal."""

from types import SimpleNamespace

import numpy as np
import pytest
from visualization_msgs.msg import Marker

from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.face_markers import MOST_TRIANGLES, FaceMarkers
from tddfa_ros.nodes.marker_messages import NAMESPACES

UPRIGHT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


class PlacedFaces:
    """What markers ask of a MetricFrame; a face in `unplaced` has no pose."""

    def __init__(self, face_model, ids, stamp_ns=0, unplaced=()):
        self.result = SimpleNamespace(
            stamp_ns=stamp_ns, faces=tuple(SimpleNamespace(id=face_id) for face_id in ids)
        )
        pose = MetricPose(UPRIGHT, np.array([0.0, 0.0, 1.0]), np.eye(6), 0.5)
        self.placed = tuple(None if face_id in unplaced else pose for face_id in ids)
        self._mean = face_model.mean * 1e-6 + [0, 0, 1]

    def vertices_m(self, index):
        return self._mean.astype(np.float32)

    def landmarks_m(self, index):
        return np.zeros((68, 3), np.float32)


@pytest.fixture
def face_model(model_set):
    return model_set.face_model


@pytest.fixture
def markers(face_model):
    return FaceMarkers(face_model, rate_hz=10.0, mesh="decimated")


def numbers_by_action(shapes):
    found = {Marker.ADD: set(), Marker.DELETE: set(), Marker.DELETEALL: set()}
    for shape in shapes:
        found[shape.action].add((shape.namespace, shape.number))
    return found


def all_of(*numbers):
    return {(name, number) for name in NAMESPACES for number in numbers}


def test_a_face_keeps_its_numbers_and_a_lost_one_is_deleted_once(markers, face_model):
    first = numbers_by_action(markers.shapes(PlacedFaces(face_model, ["f1", "f2"])))
    assert first[Marker.ADD] == all_of(0, 1)
    assert not first[Marker.DELETE]
    # The order of the faces changes, and one has no pose any more.
    second = markers.shapes(PlacedFaces(face_model, ["f3", "f2", "f1"], unplaced=["f1"]))
    found = numbers_by_action(second)
    assert found[Marker.ADD] == all_of(1, 2)
    assert found[Marker.DELETE] == all_of(0)
    assert [shape.action for shape in second[: len(NAMESPACES)]] == [Marker.DELETE] * 4
    third = numbers_by_action(markers.shapes(PlacedFaces(face_model, ["f2", "f3", "f1"])))
    assert third[Marker.ADD] == all_of(1, 2, 3)
    assert not third[Marker.DELETE]


def test_nothing_to_show_is_nothing_to_send(markers, face_model):
    assert markers.shapes(PlacedFaces(face_model, [])) == []
    assert markers.clear() == []


def test_clear_removes_everything_once(markers, face_model):
    markers.shapes(PlacedFaces(face_model, ["f1"]))
    assert not markers.due(1)
    assert [shape.action for shape in markers.clear()] == [Marker.DELETEALL]
    assert markers.clear() == []
    # Whoever is seen next has been taken away: the next image shows it again.
    assert markers.due(1)


@pytest.mark.parametrize(("rate_hz", "expected"), [(10.0, 10), (30.0, 30), (1000.0, 30), (1.0, 1)])
def test_rate_by_the_stamps_of_a_stream_of_30_hz(markers, face_model, rate_hz, expected):
    markers.rate_hz = rate_hz
    sent = 0
    for stamp_ns in range(0, 999_999_990, 33_333_333):
        if markers.due(stamp_ns):
            markers.shapes(PlacedFaces(face_model, ["f1"], stamp_ns))
            sent += 1
    assert sent == expected


def test_rate_of_a_stream_of_30_hz_in_which_neighbours_overtake_each_other(markers, face_model):
    stamps_ns = np.arange(30).reshape(-1, 2)[:, ::-1].ravel() * 33_333_333
    sent = 0
    for stamp_ns in stamps_ns.tolist():
        if markers.due(stamp_ns):
            markers.shapes(PlacedFaces(face_model, ["f1"], stamp_ns))
            sent += 1
    assert 7 <= sent <= 10


@pytest.mark.parametrize(("rate_hz", "least_s"), [(0.1, 20.0), (0.3, 2 / 0.3), (30.0, 5.0)])
def test_markers_outlast_two_periods_of_messages(markers, face_model, rate_hz, least_s):
    markers.rate_hz = rate_hz
    shapes = markers.shapes(PlacedFaces(face_model, ["f1"]))
    assert {shape.namespace for shape in shapes} == set(NAMESPACES)
    for shape in shapes:
        assert least_s <= shape.lifetime_s <= 2 * least_s


def test_time_that_steps_back_is_not_waited_for(markers, face_model):
    markers.shapes(PlacedFaces(face_model, ["f1"], 50_000_000_000))
    assert not markers.due(50_010_000_000)
    assert not markers.due(49_600_000_000)
    assert markers.due(49_400_000_000)
    assert markers.due(1_000_000_000)


def test_kinds_of_mesh_one_after_the_other(markers, face_model):
    for mesh in ("decimated", "full", "none", "decimated"):
        check_kind_of_mesh(markers, face_model, mesh)


def check_kind_of_mesh(markers, face_model, mesh):
    markers.mesh = mesh
    shapes = markers.shapes(PlacedFaces(face_model, ["f1"]))
    triangles = [
        len(shape.points_m) / 3
        for shape in shapes
        if shape.namespace == "mesh" and shape.action == Marker.ADD
    ]
    if mesh == "none":
        assert triangles == []
    elif mesh == "full":
        assert triangles == [len(face_model.triangles)]
    else:
        assert 0.9 * MOST_TRIANGLES < triangles[0] <= MOST_TRIANGLES


def test_a_mesh_that_is_switched_off_disappears(markers, face_model):
    markers.shapes(PlacedFaces(face_model, ["f1"]))
    markers.mesh = "none"
    found = numbers_by_action(markers.shapes(PlacedFaces(face_model, ["f1"])))
    assert found[Marker.DELETE] == {("mesh", 0)}
