"""Sets on disk: what is right loads unchanged, what is wrong is named, and names are found."""

import dataclasses
import hashlib
import io
import re
import shutil

import numpy as np
import pytest
import yaml

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError, ModelSetNotFoundError
from tddfa_ros.core.face_model import FaceModel, face_model_arrays
from tddfa_ros.core.model_description import (
    Description,
    DetectorSpec,
    FileRecord,
    RegressorSpec,
    dump_description,
    read_description,
)

SHAPES, EXPRESSIONS, VERTICES = 2, 3, 5


def small_face_model(**changes):
    random = np.random.default_rng(0)
    weights = np.zeros((68, 3), np.float32)
    weights[:, :2] = 0.5
    return FaceModel(
        **{
            "mean": random.normal(size=(VERTICES, 3)).astype(np.float32),
            "shape_basis": random.normal(size=(SHAPES, VERTICES, 3)).astype(np.float32),
            "expression_basis": random.normal(size=(EXPRESSIONS, VERTICES, 3)).astype(np.float32),
            "triangles": np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]], np.int32),
            "uv": random.random((VERTICES, 2), np.float32),
            "landmark_triangles": np.arange(68, dtype=np.int32) % 3,
            "landmark_weights": weights,
            "metres_per_unit": 0.001,
            "sellion_triangle": 1,
            "sellion_weights": np.array([0.2, 0.3, 0.5], np.float32),
            "symmetry": np.array([1, 0, 2, 4, 3], np.int32),
            "expression_names": ("jaw", "brows", "smile"),
            "pncc": random.random((VERTICES, 3), np.float32),
            **changes,
        }
    )


def write_set(folder, arrays=None, **changes):
    """Write a set; `arrays` replaces those of the small face model."""
    folder.mkdir(parents=True)
    stream = io.BytesIO()
    np.savez(stream, **(face_model_arrays(small_face_model()) if arrays is None else arrays))
    contents = {
        "face_model.npz": stream.getvalue(),
        "detector.onnx": b"detector",
        "regressor.onnx": b"regressor",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    description = Description(
        path=folder,
        name=folder.name,
        licence="Apache-2.0",
        licence_text="Two lines\nof text\n",
        provenance={"made by": "a test"},
        metres_per_unit=0.001,
        detector=DetectorSpec(score_threshold=0.6),
        regressor=RegressorSpec(shape_count=SHAPES, expression_count=EXPRESSIONS),
        files={
            name: FileRecord(len(data), hashlib.sha256(data).hexdigest())
            for name, data in contents.items()
        },
    )
    description = dataclasses.replace(description, **changes)
    (folder / "model.yaml").write_text(dump_description(description))
    return folder


@pytest.fixture
def small_set(tmp_path):
    return write_set(tmp_path / "small")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders, all places that are searched, in order; no other set is in sight."""
    module = tmp_path / "prefix/lib/python3.11/site-packages/tddfa_ros/core/model_set.py"
    monkeypatch.setattr(model_set, "__file__", str(module))
    for name in ("environment", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TDDFA_MODELS", str(tmp_path / "environment"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'underlay'}:{tmp_path / 'overlay'}")
    monkeypatch.chdir(tmp_path / "home")
    return {
        "environment": tmp_path / "environment",
        "user": tmp_path / "home/.cache/tddfa_ros/models",
        "own share": tmp_path / "prefix/share/tddfa_ros/models",
        "ament share": tmp_path / "underlay/share/tddfa_ros/models",
    }


# --- load ---------------------------------------------------------------------------------------


def test_a_set_loads_as_it_was_written(small_set):
    loaded = model_set.load(small_set)
    assert (loaded.name, loaded.licence, loaded.path) == ("small", "Apache-2.0", small_set)
    assert loaded.detector == DetectorSpec(score_threshold=0.6)
    assert loaded.regressor.shape_count == SHAPES
    assert loaded.detector_path.read_bytes() == b"detector"
    assert loaded.regressor_path.read_bytes() == b"regressor"
    expected = small_face_model()
    for field in dataclasses.fields(FaceModel):
        value, wanted = (getattr(model, field.name) for model in (loaded.face_model, expected))
        np.testing.assert_array_equal(value, wanted, err_msg=field.name)
        assert type(value) is type(wanted)
        if isinstance(wanted, np.ndarray):
            assert value.dtype == wanted.dtype
            assert value.flags.c_contiguous


def test_optional_arrays_may_be_absent(tmp_path):
    names = ("sellion_triangle", "sellion_weights", "symmetry", "expression_names", "pncc")
    model = small_face_model(**dict.fromkeys(names))
    loaded = model_set.load(write_set(tmp_path / "s", face_model_arrays(model)))
    assert [getattr(loaded.face_model, name) for name in names] == [None] * 5


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mean", lambda a: None, "missing arrays .*mean"),
        ("mean", lambda a: a.astype(np.float64), "mean is float64, expected float32"),
        ("mean", lambda a: np.where(a == a[0, 0], np.nan, a), "mean holds NaN"),
        ("mean", lambda a: a[:, :2], "mean has shape"),
        ("shape_basis", lambda a: a[:1], "1 shape and 3 expression vectors, but the regressor"),
        ("expression_basis", lambda a: a[:, :4], "expression_basis has shape"),
        ("triangles", lambda a: a + 3, "triangles ranges from 3 to 7, expected 0 to 4"),
        ("triangles", lambda a: -a, "triangles ranges"),
        ("triangles", lambda a: a.astype(np.int64), "triangles is int64"),
        ("uv", lambda a: a * 300, "uv ranges"),
        ("landmark_triangles", lambda a: a + 1, "landmark_triangles ranges"),
        ("landmark_triangles", lambda a: a[:67], "landmark_triangles has shape"),
        ("landmark_weights", lambda a: a * 0.9, "landmark_weights do not sum to 1"),
        ("landmark_weights", lambda a: a - np.float32([2, 0, -2]), "landmark_weights ranges"),
        ("sellion_triangle", lambda a: np.array(9, np.int32), "sellion_triangle ranges"),
        ("sellion_triangle", lambda a: None, "go together"),
        ("sellion_weights", lambda a: a * np.inf, "sellion_weights holds NaN or infinity"),
        ("symmetry", lambda a: a - 1, "symmetry ranges"),
        ("expression_names", lambda a: a[:1], "expression_names has shape"),
        ("pncc", lambda a: a * 2, "pncc ranges"),
        ("surprise", lambda a: np.zeros(1), "unknown arrays .*surprise"),
        ("mean", lambda a: a.astype(object), "plain numbers"),
    ],
)
def test_a_wrong_array_is_named(tmp_path, name, change, message):
    arrays = face_model_arrays(small_face_model())
    changed = change(arrays.get(name))
    if changed is None:
        del arrays[name]
    else:
        arrays[name] = changed
    with pytest.raises(ModelSetError, match=message):
        model_set.load(write_set(tmp_path / "s", arrays))


@pytest.mark.parametrize("name", ["face_model.npz", "detector.onnx", "regressor.onnx"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:4] + bytes([data[4] ^ 1]) + data[5:],
    ],
    ids=["shorter", "longer", "one bit"],
)
def test_a_damaged_file_is_named(small_set, name, damage):
    file = small_set / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelSetError, match=f"{re.escape(str(file))}.*Import the set anew"):
        model_set.load(small_set)


def test_a_missing_file_is_named(small_set):
    (small_set / "regressor.onnx").unlink()
    with pytest.raises(ModelSetError, match=r"regressor\.onnx"):
        model_set.load(small_set)


def test_an_npz_that_is_none_is_refused_although_its_checksum_fits(small_set):
    data = b"PK but no archive"
    (small_set / "face_model.npz").write_bytes(data)
    record = FileRecord(len(data), hashlib.sha256(data).hexdigest())
    description = read_description(small_set)
    files = description.files | {"face_model.npz": record}
    text = dump_description(dataclasses.replace(description, files=files))
    (small_set / "model.yaml").write_text(text)
    with pytest.raises(ModelSetError, match=r"not an \.npz"):
        model_set.load(small_set)


# --- model.yaml ---------------------------------------------------------------------------------


def test_description_is_the_inverse_of_its_dump(small_set):
    description = read_description(small_set)
    (small_set / "model.yaml").write_text(dump_description(description))
    assert read_description(small_set) == description
    assert description.licence_text == "Two lines\nof text\n"


def test_what_a_description_leaves_out_is_as_in_the_release(small_set):
    for section in ("detector", "regressor"):
        change_yaml(small_set, [section], {})
    description = read_description(small_set)
    assert description.detector == DetectorSpec()
    assert description.regressor == RegressorSpec()


def test_the_page_says_how_the_embedded_set_fits_stills(repository):
    page = " ".join((repository / "docs" / "architecture.md").read_text().split())
    said = re.search(
        r"`still_roi_spread` .*? \(the embedded set: ([0-9.]+)\), .*?`still_passes` .*? \((\d+)\)",
        page,
    )
    spec = model_set.read_description(repository / "models" / "embedded").regressor
    assert said is not None
    assert (float(said[1]), int(said[2])) == (spec.still_roi_spread, spec.still_passes)


def change_yaml(folder, keys, value):
    document = yaml.safe_load((folder / "model.yaml").read_text())
    section = document
    for key in keys[:-1]:
        section = section[key]
    if value is None:
        del section[keys[-1]]
    else:
        section[keys[-1]] = value
    (folder / "model.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format"], 2, "format 2, this version reads 1"),
        (["format"], "1", "format='1': expected int"),
        (["name"], None, "name is missing"),
        (["surprise"], 1, "unknown key surprise"),
        (["detector", "minimum"], 0.5, "unknown key detector.minimum"),
        (["detector", "score_threshold"], 1.5, "detector.score_threshold=1.5: must be between"),
        (["detector", "score_threshold"], float("nan"), "score_threshold=nan"),
        (["detector", "max_height"], 0, "detector.max_height=0"),
        (["detector", "max_height"], True, "max_height=True: expected int"),
        (["detector", "file"], "../detector.onnx", "plain name"),
        (["detector", "file"], "/etc/passwd", "plain name"),
        (["detector", "file"], "..", "plain name"),
        (["detector", "file"], "c:\\detector.onnx", "plain name"),
        (["detector", "file"], "other.onnx", "no entry for other.onnx"),
        (["detector"], [], "expected dict"),
        (["regressor", "input_size"], 10**9, "regressor.input_size"),
        (["regressor", "has_confidence"], 1, "expected bool"),
        (["face_model", "metres_per_unit"], 0, "metres_per_unit=0"),
        (["face_model", "metres_per_unit"], float("inf"), "metres_per_unit=inf"),
        (["face_model", "metres_per_unit"], 10**400, "metres_per_unit=a number of 1329 bits"),
        (["face_model", "file"], "x.npz", "must be face_model.npz"),
        (["face_model", "scale"], 2, "unknown key face_model.scale"),
        (["files", "detector.onnx", "md5"], "", "unknown key files.detector.onnx.md5"),
        (["files", "detector.onnx", "size_bytes"], 10**12, "size_bytes"),
        (["files", "detector.onnx", "sha256"], 5, "expected str"),
        (["files", "../evil"], {"size_bytes": 1, "sha256": ""}, "plain name"),
        (["files", "face_model.npz"], None, "no entry for face_model.npz"),
    ],
)
def test_a_wrong_entry_is_named(small_set, keys, value, message):
    change_yaml(small_set, keys, value)
    with pytest.raises(ModelSetError, match=re.escape(message)):
        model_set.load(small_set)


SHARED = "".join(f"l{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 6))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: [",
        "\0",
        "!!python/object/apply:os.system [exit]",
        "[" * 5000,
        "a: 1" + " " * 300_000,
        "format: 1\nl0: &a0 [1]\n" + SHARED + "face_model: {file: *a5}",
        "l0: &a0 [1]\n" + SHARED + "format: *a5",
        "format: 0x1" + "0" * 10_000,
        "!!" + "a" * 100_000 + " 1",
        "!!bool maybe",
        "!!int ''",
        "!!float ''",
        "!!timestamp never",
        "1" + ":1" * 1000 + ".5",
    ],
    ids=lambda text: text[:12],
)
def test_a_description_that_is_none_is_refused(small_set, text):
    (small_set / "model.yaml").write_text(text)
    with pytest.raises(ModelSetError, match=r"model\.yaml") as caught:
        read_description(small_set)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "lines",
    [
        "? " + "a" * 100_000 + "\n",
        "? 0x1" + "0" * 10_000 + "\n",
        "".join(f"key{i}: 1\n" for i in range(10_000)),
    ],
    ids=["long", "large number", "many"],
)
def test_unknown_keys_are_named_in_few_words(small_set, lines):
    with (small_set / "model.yaml").open("a") as file:
        file.write(lines)
    with pytest.raises(ModelSetError, match="unknown key") as caught:
        read_description(small_set)
    assert len(str(caught.value)) < 1000


def test_merge_keys_are_refused_as_nested_ones_grow_without_end(small_set):
    with (small_set / "model.yaml").open("a") as file:
        file.write("l0: &a0 {a: 1}\n")
        for i in range(1, 6):
            file.write(f"l{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n")
    with pytest.raises(ModelSetError, match="merge key"):
        read_description(small_set)


def test_a_description_that_is_not_text_is_refused(small_set):
    (small_set / "model.yaml").write_bytes(b"\xff\xfe\xfa" * 9)
    with pytest.raises(ModelSetError, match="not YAML"):
        read_description(small_set)


# --- find ---------------------------------------------------------------------------------------


def test_a_name_is_searched_in_order(places):
    for place in reversed(places.values()):
        write_set(place / "mine")
        assert model_set.find("mine") == place / "mine"
    assert model_set.available() == [places["environment"] / "mine"]


def test_embedded_comes_before_tddfa_v2_and_that_before_others(places):
    write_set(places["environment"] / "another")
    assert model_set.find() == places["environment"] / "another"
    write_set(places["own share"] / "tddfa_v2")
    assert model_set.find() == places["own share"] / "tddfa_v2"
    write_set(places["ament share"] / "embedded")
    assert model_set.find("") == places["ament share"] / "embedded"


def test_the_source_tree_is_searched(places, tmp_path, monkeypatch):
    monkeypatch.setattr(model_set, "__file__", str(tmp_path / "tree/tddfa_ros/core/model_set.py"))
    write_set(tmp_path / "tree" / "models" / "mine")
    assert model_set.available() == []
    (tmp_path / "tree" / "package.xml").write_text("")
    assert model_set.available() == [tmp_path / "tree" / "models" / "mine"]


def test_the_variable_may_name_a_set_or_several_folders(places, tmp_path, monkeypatch):
    first = write_set(tmp_path / "a" / "mine")
    second = write_set(tmp_path / "b" / "yours")
    monkeypatch.setenv("TDDFA_MODELS", f"{first}:{tmp_path / 'b'}:{tmp_path / 'absent'}")
    assert model_set.find("mine") == first
    assert model_set.find("yours") == second


def test_a_path_is_taken_as_it_is(places, small_set, tmp_path, monkeypatch):
    write_set(places["environment"] / "small", metres_per_unit=0.5)
    assert model_set.find(small_set) == small_set
    assert model_set.find(f"{small_set}/") == small_set
    monkeypatch.chdir(tmp_path)
    assert model_set.find("./small").resolve() == small_set
    assert model_set.find("small") == places["environment"] / "small"
    shutil.rmtree(places["environment"] / "small")
    assert model_set.find("small").resolve() == small_set


def test_hidden_and_other_folders_are_no_sets(places):
    write_set(places["environment"] / ".mine.part")
    (places["environment"] / "photos").mkdir()
    (places["environment"] / "file").write_text("")
    assert model_set.available() == []


def test_a_missing_set_says_what_where_and_how(places):
    with pytest.raises(ModelSetNotFoundError) as caught:
        model_set.find("tddfa_v2")
    message = str(caught.value)
    assert "'tddfa_v2'" in message
    for place in places.values():
        assert str(place) in message
    assert "models fetch" in message
    assert "models import <folder>" in message
    assert "\n" not in message


def test_a_missing_path_says_which(tmp_path):
    with pytest.raises(ModelSetNotFoundError, match=re.escape(str(tmp_path / "nothing"))):
        model_set.find(tmp_path / "nothing")
    with pytest.raises(ModelSetNotFoundError, match=re.escape(str(tmp_path))):
        model_set.load(tmp_path)


def test_folders_below_a_home_that_is_not_known_are_left_out(places, monkeypatch):
    def unknown(_):
        raise KeyError

    home = str(places["user"])
    monkeypatch.setenv("TDDFA_MODELS", f"~no-such-user/models:{places['environment']}")
    assert [f for f in map(str, model_set.search_folders()) if "~" in f] == []
    assert home in map(str, model_set.search_folders())
    # As for a number that a container gives its user.
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    write_set(places["own share"] / "embedded")
    assert model_set.find() == places["own share"] / "embedded"
    assert home not in map(str, model_set.search_folders())


def test_a_path_below_a_home_that_is_not_known_is_named():
    with pytest.raises(ModelSetNotFoundError, match="~no-such-user/mine: that home folder"):
        model_set.find("~no-such-user/mine")
