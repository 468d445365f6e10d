import argparse
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.config_arguments import config_from
from tddfa_ros.core.outputs import OUTPUTS
from tddfa_ros.core.release.unpickle import read_pickle
from tddfa_ros.core.results import face_from_dict
from tddfa_ros.tools.image import _files, add_arguments, output_stems
from tddfa_ros.tools.outputs import Wishes

BOX_TOLERANCE_PX = 1.0
LANDMARK_TOLERANCE_PX = 0.5
PARAMS_TOLERANCE_STD = 1e-3
EULER_TOLERANCE_DEG = 0.1
RENDERED_TOLERANCE = 3
RENDERED_SHARE = 0.995
TRIANGLES = 76073

NAMES = (
    "JianzhuGuo",
    "aflw2000_image00050",
    "aflw2000_image00251",
    "aflw2000_image00430",
    "aflw2000_image01322",
    "aflw2000_image02283",
    "aflw2000_image03324",
    "trump_hillary",
)


def read_faces(path: Path) -> list[dict]:
    return json.loads(path.read_text())["faces"]


@pytest.fixture(scope="module")
def results(run_cli, media, golden, tddfa_v2_set, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results")
    pictures = [media / f"{name}.jpg" for name in NAMES]
    done = run_cli("image", *pictures, "--model-set", tddfa_v2_set, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_golden_picture_is_tested(golden):
    assert {path.stem for path in golden.glob("*.npz")} == {*NAMES, "obama_track"}


@pytest.mark.parametrize("name", NAMES)
def test_parity_with_the_public_release(name, results, golden, release_folder):
    std = read_pickle(
        (release_folder / "param_mean_std_62d_120x120.pkl").read_bytes(), "param_mean_std"
    )["std"]
    truth = np.load(golden / f"{name}.npz")
    faces = read_faces(results / f"{name}.json")
    assert len(faces) == len(truth["boxes"])
    nearest = [
        int(np.argmin([np.abs(np.subtract(f["box_xyxy"], box[:4])).max() for f in faces]))
        for box in truth["boxes"]
    ]
    assert sorted(nearest) == list(range(len(faces)))
    for row, index in enumerate(nearest):
        face = faces[index]
        box, score = truth["boxes"][row, :4], truth["boxes"][row, 4]
        np.testing.assert_allclose(face["box_xyxy"], box, rtol=0, atol=BOX_TOLERANCE_PX)
        assert face["score"] == pytest.approx(score, abs=0.01)
        np.testing.assert_allclose(
            np.array(face["params"]) / std,
            truth["params"][row] / std,
            rtol=0,
            atol=PARAMS_TOLERANCE_STD,
        )
        np.testing.assert_allclose(
            face["landmarks"], truth["sparse"][row].T, rtol=0, atol=LANDMARK_TOLERANCE_PX
        )
        np.testing.assert_allclose(
            face["roi_xyxy"], truth["rois"][row], rtol=0, atol=BOX_TOLERANCE_PX
        )
        np.testing.assert_allclose(
            face["reference_euler_deg"], truth["pose_deg"][row], rtol=0, atol=EULER_TOLERANCE_DEG
        )
        assert np.linalg.norm(face["quat_xyzw"]) == pytest.approx(1, abs=1e-9)


def test_document_names_picture_size_and_set(results, media):
    document = json.loads((results / "trump_hillary.json").read_text())
    height, width = cv2.imread(str(media / "trump_hillary.jpg")).shape[:2]
    assert document["image"] == str(media / "trump_hillary.jpg")
    assert (document["image_width"], document["image_height"]) == (width, height)
    assert document["model_set"] == "tddfa_v2"
    ids = [face_from_dict(face).id for face in document["faces"]]
    assert len(set(ids)) == 2
    assert all(name[0].isalpha() for name in ids)


def test_overlay_differs_from_the_picture_at_the_face_only(results, media):
    picture = cv2.imread(str(media / "JianzhuGuo.jpg")).astype(int)
    drawn = cv2.imread(str(results / "JianzhuGuo_overlay.jpg")).astype(int)
    assert drawn.shape == picture.shape
    changed = np.abs(drawn - picture).max(axis=2) > 60
    (face,) = read_faces(results / "JianzhuGuo.json")
    x, y = np.rint(np.array(face["landmarks"])[:, :2]).astype(int).T
    assert changed[y, x].mean() > 0.8
    x0, y0, x1, y1 = np.rint(face["box_xyxy"]).astype(int)
    changed[max(0, y0 - 60) : y1 + 60, max(0, x0 - 60) : x1 + 60] = False
    assert changed.mean() < 1e-3


def test_bad_files_are_named_and_the_others_go_on(run_cli, astronaut, tddfa_v2_set, tmp_path):
    good, broken, empty = tmp_path / "good.png", tmp_path / "broken.jpg", tmp_path / "empty.png"
    cv2.imwrite(str(good), astronaut)
    broken.write_bytes(b"\xff\xd8 this is no picture")
    empty.write_bytes(b"")
    missing = tmp_path / "missing.png"
    out = tmp_path / "out"
    done = run_cli(
        "image", broken, empty, missing, tmp_path, good, "--model-set", tddfa_v2_set, "--out", out
    )
    assert done.returncode == 1
    for path in (broken, empty, missing, tmp_path):
        assert f"{path}: " in done.stderr
    assert "4 of 5 files failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["good.json", "good_overlay.jpg"]
    assert len(read_faces(out / "good.json")) == 1


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("one_pixel", np.zeros((1, 1, 3), np.uint8)),
        ("black", np.zeros((480, 640, 3), np.uint8)),
        ("huge", np.full((6000, 8000, 3), 127, np.uint8)),
    ],
)
def test_a_picture_without_a_face_has_an_empty_list(run_cli, tddfa_v2_set, tmp_path, name, picture):
    cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    done = run_cli(
        "image", tmp_path / f"{name}.png", "--model-set", tddfa_v2_set, "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert read_faces(tmp_path / "out" / f"{name}.json") == []


def encodings(photo: np.ndarray) -> dict[str, np.ndarray]:
    opaque = np.full((*photo.shape[:2], 1), 255, np.uint8)
    return {
        "grey": cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY),
        "rgba": np.dstack([photo, opaque]),
        "sixteen_bit": photo.astype(np.uint16) * 257,
    }


@pytest.mark.parametrize("encoding", ["grey", "rgba", "sixteen_bit"])
def test_other_encodings_give_the_same_face(run_cli, astronaut, tddfa_v2_set, tmp_path, encoding):
    cv2.imwrite(str(tmp_path / "plain.png"), astronaut)
    cv2.imwrite(str(tmp_path / "other.png"), encodings(astronaut)[encoding])
    files = tmp_path / "plain.png", tmp_path / "other.png"
    done = run_cli("image", *files, "--model-set", tddfa_v2_set, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    plain, other = (read_faces(tmp_path / "out" / f"{f.stem}.json") for f in files)
    assert len(plain) == len(other) == 1
    # Grey loses the colours that the networks saw; the others lose nothing.
    tolerance_px = 5.0 if encoding == "grey" else 1e-3
    np.testing.assert_allclose(
        other[0]["landmarks"], plain[0]["landmarks"], rtol=0, atol=tolerance_px
    )


def test_every_output_gets_a_file_of_its_own(run_cli, media, tddfa_v2_set, tmp_path):
    done = run_cli(
        *("image", media / "trump_hillary.jpg", "--model-set", tddfa_v2_set, "--out", tmp_path),
        *("--outputs", ",".join(OUTPUTS), "--overlay", "mesh,id", "--texture-size", "128"),
    )
    assert done.returncode == 0, done.stderr
    expected = {f"trump_hillary_{name}{output.suffix}" for name, output in OUTPUTS.items()}
    expected |= {"trump_hillary.json", "trump_hillary_overlay.jpg"}
    expected |= {"trump_hillary_obj.mtl", "trump_hillary_obj.png"}
    assert {path.name for path in tmp_path.iterdir()} == expected

    height, width = cv2.imread(str(media / "trump_hillary.jpg")).shape[:2]
    for name, output in OUTPUTS.items():
        path = tmp_path / f"trump_hillary_{name}{output.suffix}"
        if output.picture is None:
            assert len(trimesh.load_mesh(path, process=False).faces) == 2 * TRIANGLES
        else:
            shape = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape
            assert shape[:2] == ((128, 256) if name == "texture" else (height, width))


@pytest.mark.parametrize("name", ["JianzhuGuo", "trump_hillary"])
@pytest.mark.parametrize("output", ["depth", "pncc"])
def test_rendered_outputs_are_those_of_the_public_release(
    run_cli, media, golden, tddfa_v2_set, tmp_path, name, output
):
    done = run_cli(
        *("image", media / f"{name}.jpg", "--model-set", tddfa_v2_set),
        *("--out", tmp_path, "--outputs", output),
    )
    assert done.returncode == 0, done.stderr
    ours, truth = (
        cv2.imread(str(folder / f"{name}_{output}.png"), cv2.IMREAD_COLOR).astype(int)
        for folder in (tmp_path, golden)
    )
    face = (truth > 0).any(axis=2) | (ours > 0).any(axis=2)
    near = (np.abs(ours - truth).max(axis=2) <= RENDERED_TOLERANCE)[face]
    assert near.mean() >= RENDERED_SHARE


def test_mesh_in_its_own_pose_has_the_size_of_a_head(run_cli, media, tddfa_v2_set, tmp_path):
    done = run_cli(
        *("image", media / "trump_hillary.jpg", "--model-set", tddfa_v2_set, "--out", tmp_path),
        *("--outputs", "stl", "--mesh-pose", "own"),
    )
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "trump_hillary_stl.stl", tmp_path / "trump_hillary_stl_2.stl"):
        mesh = trimesh.load_mesh(path, process=False)
        assert len(mesh.faces) == TRIANGLES
        assert 0.12 < mesh.extents[0] < 0.22
        assert 0.14 < mesh.extents[1] < 0.30


def test_a_picture_without_a_face_has_pictures_and_no_mesh(run_cli, tddfa_v2_set, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 120, 3), np.uint8))
    done = run_cli(
        *("image", tmp_path / "a.png", "--model-set", tddfa_v2_set, "--out", tmp_path / "out"),
        *("--outputs", ",".join(OUTPUTS)),
    )
    assert done.returncode == 0, done.stderr
    pictures = {f"a_{n}{o.suffix}" for n, o in OUTPUTS.items() if o.picture is not None}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == pictures | {"a.json", "a_overlay.jpg"}


def test_small_faces_are_searched_for_on_demand(run_cli, astronaut, repository, tmp_path):
    picture = np.full((2000, 3000, 3), 120, np.uint8)
    picture[700:905, 1400:1605] = cv2.resize(astronaut, (205, 205), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    models = repository / "models" / "embedded"
    for options, count in (((), 0), (("--small-faces",), 1)):
        done = run_cli(
            *("image", tmp_path / "a.png", "--out", tmp_path, "--model-set", models, *options)
        )
        assert done.returncode == 0, done.stderr
        assert len(read_faces(tmp_path / "a.json")) == count


def test_unknown_output_is_a_usage_error(run_cli):
    done = run_cli("image", "a.png", "--out", "x", "--outputs", "landmarks,hologram")
    assert done.returncode == 2
    assert "hologram" in done.stderr


def test_equal_stems_do_not_overwrite_each_other(run_cli, astronaut, tddfa_v2_set, tmp_path):
    for folder, picture in (("a", astronaut), ("b", np.zeros_like(astronaut))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), picture)
    files = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    done = run_cli("image", *files, "--model-set", tddfa_v2_set, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{files[0]}: 1 face -> {tmp_path}/out/x.json\n"
        f"{files[1]}: 0 faces -> {tmp_path}/out/x_2.json\n"
    )
    for stem, file in zip(("x", "x_2"), files, strict=True):
        document = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        assert document["image"] == str(file)


@pytest.mark.parametrize(
    ("names", "arguments", "lost"),
    [
        (["a_overlay.jpg", "a.jpg"], [], "a_overlay.jpg"),
        (["a.jpg", "a_mesh.jpg"], ["--outputs", "depth,mesh"], "a_mesh.jpg"),
        (["a_depth.png", "a.jpg"], ["--outputs", "depth", "--overlay", ""], "a_depth.png"),
        (["a.jpg", "a_obj.png"], ["--outputs", "obj"], "a_obj.png"),
        (["a_obj_2.png", "a.jpg"], ["--outputs", "obj", "--mesh-pose", "own"], "a_obj_2.png"),
        (["a.json", "a.jpg"], [], "a.json"),
    ],
)
@pytest.mark.parametrize("given", ["plain", "dotted", "linked"])
def test_a_run_that_would_replace_an_input_is_refused(
    run_cli, tmp_path, names, arguments, lost, given
):
    for name in names:
        (tmp_path / name).write_bytes(b"the only copy of " + name.encode())
    (tmp_path / "link").symlink_to(tmp_path)
    folder = {"plain": ".", "dotted": f"../{tmp_path.name}/.", "linked": "link"}[given]
    files = [f"{folder}/{name}" for name in names]
    done = run_cli("image", *files, "--out", ".", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (f"tddfa_ros image: {lost}: is one of the inputs; choose another --out\n")
    assert {path.name for path in tmp_path.iterdir()} == {*names, "link"}
    for name in names:
        assert (tmp_path / name).read_bytes() == b"the only copy of " + name.encode()


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        (Wishes(), ["a.json", "a_overlay.jpg"]),
        (Wishes(overlay=(), names=("uv",)), ["a.json", "a_uv.png"]),
        (Wishes(overlay=(), names=("glb",)), ["a.json", "a_glb.glb"]),
        (
            Wishes(overlay=(), names=("glb",), mesh_pose="own"),
            ["a.json", "a_glb.glb", "a_glb_2.glb", "a_glb_3.glb"],
        ),
    ],
)
def test_no_input_is_looked_for_where_nothing_is_written(wishes, names):
    assert list(_files(Path("out"), "a", wishes, 3)) == [Path("out", name) for name in names]


def test_the_last_mesh_that_a_picture_may_get_is_no_input_either(run_cli, tmp_path):
    arguments = ("a.jpg", "a_stl_7.stl", "--out", ".", "--outputs", "stl", "--mesh-pose", "own")
    (tmp_path / "a_stl_7.stl").write_text("mine")
    for count, refused in ((7, True), (6, False)):
        done = run_cli("image", *arguments, "--max-faces", count, cwd=tmp_path)
        assert done.returncode == 1
        assert ("a_stl_7.stl: is one of the inputs" in done.stderr) is refused
        assert (tmp_path / "a_stl_7.stl").read_text() == "mine"


def test_results_beside_the_inputs_are_fine_where_none_is_replaced(
    run_cli, astronaut, tddfa_v2_set, tmp_path
):
    for name in ("a.png", "a_mesh.jpg", "a_obj_2.png"):
        cv2.imwrite(str(tmp_path / name), astronaut)
    files = sorted(tmp_path.iterdir())
    before = [path.read_bytes() for path in files]
    done = run_cli(
        *("image", *files, "--model-set", tddfa_v2_set, "--out", tmp_path),
        *("--outputs", "obj,depth"),
    )
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in files] == before
    assert all((tmp_path / f"{path.stem}.json").is_file() for path in files)


def test_one_odd_file_does_not_end_the_run(run_cli, astronaut, tddfa_v2_set, tmp_path):
    wide, unnamed, last = (tmp_path / name for name in ("wide.png", "f\udcfcr.png", "last.png"))
    cv2.imwrite(str(wide), np.zeros((8, 65501, 3), np.uint8))
    for path in (unnamed, last):
        path.write_bytes(cv2.imencode(".png", astronaut)[1].tobytes())
    out = tmp_path / "out"
    done = run_cli(
        *("image", wide, unnamed, last, "--model-set", tddfa_v2_set),
        *("--out", out, "--outputs", "obj"),
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 1
    assert "wide_overlay.jpg: a picture of 65501x8 is too large" in done.stderr
    assert "1 of 3 files failed" in done.stderr
    assert "Traceback" not in done.stderr
    for stem in ("f\udcfcr", "last"):
        assert len(read_faces(out / f"{stem}.json")) == 1
        assert (out / f"{stem}_obj.obj").is_file()


def test_results_that_cannot_be_written_are_told_file_by_file(
    run_cli, astronaut, repository, tmp_path
):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), astronaut)
    (tmp_path / "out").write_text("mine")
    done = run_cli(
        *("image", tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out"),
        *("--model-set", repository / "models" / "embedded", "--overlay", ""),
    )
    assert done.returncode == 1
    for name in ("a.json", "b.json"):
        assert f"{tmp_path}/out/{name}: cannot be written (" in done.stderr
    assert "choose another --out" in done.stderr
    assert "2 of 2 files failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_pictures_have_the_settings_of_searching_and_fitting_but_none_of_following():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = {
        "model_set": "x",
        "max_faces": 3,
        "detection_threshold": 0.7,
        "small_faces": True,
        "confidence_threshold": 0.6,
        "detector_threads": 1,
        "regressor_threads": 2,
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    options[options.index("--small-faces=True")] = "--small-faces"
    args = parser.parse_args(["a.png", "--out", "x", *options])
    assert config_from(args) == PipelineConfig(**given)
    assert not hasattr(args, "smoothing")


def test_output_stems_are_unique_whatever_the_names():
    paths = [Path(p) for p in ("a/x.png", "b/x.jpg", "c/X.png", "d/x_2.png", "e/y.png")]
    assert output_stems(paths) == ["x", "x_2", "X_3", "x_2_2", "y"]
    paths = [Path(p) for p in ("a/x_2.png", "a/X_3.png", "a/x.png", "b/x.png", "c/x_2.png")]
    assert output_stems(paths) == ["x_2", "X_3", "x", "x_4", "x_2_2"]


def test_output_stems_of_very_many_files_of_one_name_take_no_time():
    paths = [Path(f"{folder}/x.png") for folder in range(50_000)]
    started_s = time.monotonic()
    stems = output_stems(paths)
    assert time.monotonic() - started_s < 10
    assert stems == ["x", *(f"x_{count}" for count in range(2, 50_001))]


def test_missing_model_set_is_one_clear_message(run_cli, tmp_path):
    done = run_cli("image", "a.png", "--model-set", "no_such_set", "--out", tmp_path)
    assert done.returncode == 1
    assert "no_such_set" in done.stderr
    assert "tddfa_ros models" in done.stderr
    assert "Traceback" not in done.stderr
