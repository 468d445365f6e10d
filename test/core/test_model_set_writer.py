"""A written set is the set that is read, and what was there stays unless it is complete."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.model_description import DetectorSpec, RegressorSpec, read_description
from tddfa_ros.core.model_set_writer import write_model_set

PARTS = {
    "detector": DetectorSpec(file="d.onnx", nms_iou=0.4),
    "detector_onnx": b"detector",
    "regressor": RegressorSpec(shape_count=2, expression_count=1, has_confidence=True),
    "regressor_onnx": b"regressor",
    "licence": "CC0-1.0",
    "licence_text": "Do as you like.\nReally.\n",
    "provenance": {"made by": "a test", "numbers": [1, 2.5]},
}


def face_model(**changes):
    random = np.random.default_rng(2)
    weights = np.full((68, 3), 1 / 3, np.float32)
    known = FaceModel(
        mean=random.normal(size=(4, 3)).astype(np.float32),
        shape_basis=random.normal(size=(2, 4, 3)).astype(np.float32),
        expression_basis=random.normal(size=(1, 4, 3)).astype(np.float32),
        triangles=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        uv=random.random((4, 2), np.float32),
        landmark_triangles=np.zeros(68, np.int32),
        landmark_weights=weights,
        metres_per_unit=1.0,
    )
    return dataclasses.replace(known, **changes)


def test_what_is_written_is_read(tmp_path):
    written = write_model_set(tmp_path / "a" / "mine", face_model=face_model(), **PARTS)
    read = model_set.load(tmp_path / "a" / "mine")
    for one in (written, read):
        assert (one.name, one.licence) == ("mine", "CC0-1.0")
        assert (one.detector, one.regressor) == (PARTS["detector"], PARTS["regressor"])
        np.testing.assert_array_equal(one.face_model.mean, face_model().mean)
        assert one.detector_path.read_bytes() == b"detector"
    description = read_description(read.path)
    assert description.provenance == PARTS["provenance"]
    assert description.licence_text == PARTS["licence_text"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_a_compressed_set_with_more_files_is_smaller_and_the_same(tmp_path):
    many = face_model(
        mean=np.zeros((900, 3), np.float32),
        shape_basis=np.zeros((2, 900, 3), np.float32),
        expression_basis=np.zeros((1, 900, 3), np.float32),
        uv=np.zeros((900, 2), np.float32),
    )
    plain, small = (
        write_model_set(
            tmp_path / name,
            face_model=many,
            compressed=name == "small",
            beside={"card.md": b"A card."},
            **PARTS,
        )
        for name in ("plain", "small")
    )
    np.testing.assert_array_equal(small.face_model.shape_basis, plain.face_model.shape_basis)
    sizes = [(one.path / "face_model.npz").stat().st_size for one in (small, plain)]
    assert sizes[0] < sizes[1] / 3
    assert (small.path / "card.md").read_bytes() == b"A card."
    assert "card.md" not in read_description(small.path).files


@pytest.mark.parametrize(
    "changes",
    [{"uv": np.full((4, 2), 2, np.float32)}, {"expression_basis": np.zeros((3, 4, 3), np.float32)}],
)
def test_a_set_that_would_not_load_is_not_written(tmp_path, changes):
    with pytest.raises(ModelSetError):
        write_model_set(tmp_path / "mine", face_model=face_model(**changes), **PARTS)
    assert list(tmp_path.iterdir()) == []
    write_model_set(tmp_path / "mine", face_model=face_model(), **PARTS)
    with pytest.raises(ModelSetError):
        write_model_set(tmp_path / "mine", face_model=face_model(**changes), **PARTS)
    assert model_set.load(tmp_path / "mine").name == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["file", "folder with other things"])
def test_other_things_are_not_replaced(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    else:
        (out / "photos").mkdir(parents=True)
    with pytest.raises(ModelSetError, match="is no model set; choose another folder"):
        write_model_set(out, face_model=face_model(), **PARTS)
    assert out.is_file() or (out / "photos").is_dir()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelSetError, match="file: cannot be written"):
        write_model_set(tmp_path / "file" / "mine", face_model=face_model(), **PARTS)


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_model_set_writer import PARTS, face_model
from tddfa_ros.core.model_set_writer import write_model_set
for _ in range(20):
    write_model_set(sys.argv[1], face_model=face_model(), **PARTS)
"""


def test_writers_at_once_leave_one_whole_set(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "mine"), str(Path(__file__).parent)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], errors
    assert model_set.load(tmp_path / "mine").name == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
