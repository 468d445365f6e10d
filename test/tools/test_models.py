"""The `models` verb as a user meets it: its output, its exit codes and its one-line errors."""

import dataclasses
import hashlib
import http.server
import io
import os
import shutil
import threading
from functools import partial

import numpy as np
import pytest
from onnx import TensorProto

from tddfa_ros.__main__ import main
from tddfa_ros.core import model_set
from tddfa_ros.core.folder_lock import locked
from tddfa_ros.core.model_set_writer import write_model_set
from tddfa_ros.core.release import manifest, yunet
from tddfa_ros.core.release.fetch import Connection
from tddfa_ros.core.release.onnx_graph import OnnxGraph
from tddfa_ros.tools import models as verb
from tddfa_ros.tools.models import _progress_bars, _say, _say_made


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """The user's own sets are out of reach."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TDDFA_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115


@pytest.fixture
def own_set(tmp_path, tddfa_v2_set):
    shutil.copytree(tddfa_v2_set, tmp_path / "models" / "mine")
    return tmp_path / "models" / "mine"


def models(capsys, *arguments):
    """Run `models ARGUMENTS`: exit status, output, errors."""
    try:
        status = main(["models", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["import"], ["fetch", "other"], ["import", ".", "--regressor", "x"]],
)
def test_wrong_usage_is_status_2(capsys, arguments):
    status, _, err = models(capsys, *arguments)
    assert status == 2
    assert "usage: python -m tddfa_ros models" in err


@pytest.mark.parametrize(("action", "told"), [("import", False), ("fetch", True)])
def test_help_of_an_action_tells_of_its_own_sets_alone(capsys, action, told):
    status, out, _ = models(capsys, action, "--help")
    assert status == 0
    assert "~/.cache/tddfa_ros/models/tddfa_v2" in out
    assert ("yunet" in out) == told


def test_list_without_any_set_says_how_to_get_one(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(model_set, "__file__", str(tmp_path / "a/b/c/model_set.py"))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    status, out, _ = models(capsys, "list")
    assert status == 0
    assert str(tmp_path / "models") in out
    assert "models fetch" in out
    status, _, err = models(capsys, "verify")
    assert status == 1
    assert err.count("\n") == 1


def test_list_names_each_set_and_survives_a_damaged_one(capsys, tmp_path, own_set):
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model.yaml").write_text("[")
    status, out, _ = models(capsys, "list")
    assert status == 0
    assert "broken: damaged" in out
    assert "mine (tddfa_v2)\n" in out
    assert f"path     {own_set}\n" in out
    assert f"licence  {manifest.LICENCE}\n" in out
    total = sum(f.stat().st_size for f in own_set.iterdir() if f.name != "model.yaml")
    assert f"size     {total / 1e6:.1f} MB" in out


def test_import_makes_a_set_that_is_found_and_in_order(capsys, release_folder, tmp_path):
    status, out, _ = models(capsys, "import", release_folder, "--regressor", "mb05")
    assert status == 0
    folder = tmp_path / "home/.cache/tddfa_ros/models/tddfa_v2"
    assert out.endswith(f"is in {folder}; use it with --model-set tddfa_v2\n")
    assert model_set.find("tddfa_v2") == folder
    assert models(capsys, "verify", "tddfa_v2")[:2] == (0, f"{folder}: in order\n")


def test_import_elsewhere_says_the_path(capsys, release_folder, tmp_path):
    folder = tmp_path / "sets" / "x"
    status, out, _ = models(capsys, "import", release_folder, "--out", folder)
    assert status == 0
    assert out.endswith(f"use it with --model-set {folder}\n")
    assert models(capsys, "verify", folder)[0] == 0


@pytest.mark.parametrize("out", ["models/x", "."])
def test_import_of_both_regressors_makes_two_sets(
    capsys, release_folder, tmp_path, monkeypatch, out
):
    """With the half-width weights under both names: the networks are built from what is there."""
    folder = tmp_path / "release"
    folder.mkdir()
    for file in release_folder.iterdir():
        (folder / file.name).symlink_to(file)
    if not (folder / "mb1_120x120.pth").exists():
        (folder / "mb1_120x120.pth").symlink_to(release_folder / "mb05_120x120.pth")
    (tmp_path / "models/x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ("models/x" if out == "." else ""))
    status, *_ = models(capsys, "import", folder, "--out", out, "--regressor", "both")
    assert status == 0
    used = {
        path.name: model_set.read_description(path).provenance["regressor"]
        for path in (tmp_path / "models").iterdir()
    }
    assert used == {"x": "mb1", "x_mb05": "mb05"}


def test_errors_are_one_line_and_status_1(capsys, release_folder, tmp_path):
    for arguments in (
        ["import", tmp_path],
        ["import", tmp_path / "absent"],
        ["import", release_folder, "--regressor", "mb1"],
        ["verify", "absent"],
        ["verify", tmp_path],
        ["verify", "~no-such-user/x"],
        ["import", release_folder, "--out", "~no-such-user/x"],
        ["fetch"],
        ["fetch", "--yes", "--out", "~no-such-user/x"],
        ["fetch", "yunet", "--yes", "--out", "~no-such-user/x"],
        ["fetch", "--yes", "--downloads", "~no-such-user/x"],
        ["fetch", "--yes", "--base-url", "file:///"],
        ["fetch", "--yes", "--base-url", "http://127.0.0.1:9/", "--downloads", "/dev/null/x"],
    ):
        status, _, err = models(capsys, *arguments)
        assert status == 1, arguments
        assert err.startswith("tddfa_ros models: "), arguments
        assert err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("name", "options", "taken"),
    [
        ("tddfa_v2", [], "x"),
        ("tddfa_v2", ["--regressor", "both"], "x_mb05"),
        ("yunet", ["--base", "OWN"], "x"),
    ],
)
def test_fetch_refuses_a_folder_of_other_files_before_it_downloads(
    capsys, own_set, tmp_path, name, options, taken
):
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "notes.txt").touch()
    options = [own_set if option == "OWN" else option for option in options]
    # Nobody answers there: that would be told instead.
    places = ["--out", tmp_path / "x", "--base-url", "http://127.0.0.1:9/"]
    status, out, err = models(capsys, "fetch", name, "--yes", *options, *places)
    assert status == 1
    assert f"{tmp_path / taken} exists and is no model set" in err
    assert "licence" not in out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "detector.onnx").write_bytes(b"x"), "detector.onnx"),
        (lambda s: (s / "face_model.npz").unlink(), "face_model.npz"),
        (
            lambda s: (s / "model.yaml").write_text(
                (s / "model.yaml")
                .read_text()
                .replace("metres_per_unit: 1.0e-06", "metres_per_unit: 2.0e-06")
            ),
            "m between the outer corners of the eyes",
        ),
        (
            lambda s: (s / "model.yaml").write_text(
                (s / "model.yaml")
                .read_text()
                .replace("metres_per_unit: 1.0e-06", "metres_per_unit: 5.0e-07")
            ),
            "m between the outer corners of the eyes",
        ),
    ],
)
def test_verify_finds_what_is_not_in_order(capsys, own_set, damage, message):
    damage(own_set)
    status, out, _ = models(capsys, "verify", "mine")
    assert status == 1
    assert out.startswith(f"{own_set}: NOT in order: ")
    assert message in out
    assert out.count("\n") == 1


def constant_regressor(spec, value, rows):
    """Network with parameters and confidences of one value: `rows` of them, 0 for one a crop."""
    graph = OnnxGraph()
    crops = graph.add("Shape", "crops", start=0, end=1)
    count = crops if rows == 0 else graph.constant(np.array([rows]))
    columns = 12 + spec.shape_count + spec.expression_count
    shape = graph.add("Concat", count, graph.constant(np.array([columns])), axis=0)
    constant = graph.constant(np.float32(value))
    graph.add("Expand", constant, shape, output_name="params")
    graph.add("Expand", constant, count, output_name="confidence")
    model = graph.model(
        "constant",
        {"crops": (TensorProto.UINT8, ["n", spec.input_size, spec.input_size, 3])},
        {
            "params": (TensorProto.FLOAT, ["n", columns]),
            "confidence": (TensorProto.FLOAT, ["n"]),
        },
    )
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("value", "rows", "message"),
    [(np.nan, 0, "are not finite"), (0.5, 1, "expected [2, ")],
)
def test_verify_finds_a_regressor_whose_fits_are_none_and_goes_on(
    capsys, repository, tmp_path, value, rows, message
):
    embedded = repository / "models" / "embedded"
    base = model_set.load(embedded)
    path = tmp_path / "models" / "broken"
    write_model_set(
        path,
        face_model=base.face_model,
        detector=base.detector,
        detector_onnx=base.detector_path.read_bytes(),
        regressor=base.regressor,
        regressor_onnx=constant_regressor(base.regressor, value, rows),
        licence="none",
        provenance={},
    )
    status, out, _ = models(capsys, "verify", path, embedded)
    assert status == 1
    bad, good = out.splitlines()
    assert bad.startswith(f"{path}: NOT in order: ")
    assert message in bad
    assert good == f"{embedded}: in order"


def detector_of_more_boxes_than_scores():
    graph = OnnxGraph()
    for name, shape in (("boxes_xyxy", (2, 4)), ("scores", (1,))):
        graph.add("Identity", graph.constant(np.zeros(shape, np.float32)), output_name=name)
    model = graph.model(
        "unequal",
        {"image": (TensorProto.UINT8, ["height", "width", 3])},
        {
            "boxes_xyxy": (TensorProto.FLOAT, ["n", 4]),
            "scores": (TensorProto.FLOAT, ["n"]),
        },
    )
    return model.SerializeToString()


def test_verify_finds_a_detector_that_fails_only_on_an_image(capsys, repository, tmp_path):
    base = model_set.load(repository / "models" / "embedded")
    path = tmp_path / "models" / "broken"
    write_model_set(
        path,
        face_model=base.face_model,
        detector=base.detector,
        detector_onnx=detector_of_more_boxes_than_scores(),
        regressor=base.regressor,
        regressor_onnx=base.regressor_path.read_bytes(),
        licence="none",
        provenance={},
    )
    status, out, _ = models(capsys, "verify", path)
    assert status == 1
    assert out.startswith(f"{path}: NOT in order: {path / 'detector.onnx'}: output 'scores' has")


def test_verify_of_two_sets_that_are_not_in_order_is_status_1_too(capsys, tmp_path, own_set):
    (own_set / "face_model.npz").unlink()
    shutil.copytree(own_set, tmp_path / "models" / "again")
    status, out, _ = models(capsys, "verify")
    assert status == 1
    for folder in (own_set, own_set.with_name("again")):
        assert f"{folder}: NOT in order: " in out


def test_a_set_that_is_found_through_a_link_is_told_by_its_name(capsys, tmp_path, own_set):
    (tmp_path / "link").symlink_to(tmp_path / "models")
    (tmp_path / "sets").mkdir()
    shutil.copytree(own_set, tmp_path / "sets" / "other")
    for path, handle in (
        (tmp_path / "link" / "mine", "tddfa_v2"),
        (tmp_path / "sets" / "other", tmp_path / "sets" / "other"),
    ):
        _say_made(model_set.load(path))
        assert capsys.readouterr().out.endswith(f"use it with --model-set {handle}\n")


def test_fetch_shows_the_licence_and_asks_first(capsys):
    status, out, err = models(capsys, "fetch")
    assert status == 1
    assert out.startswith(manifest.LICENCE_TEXT)
    assert "the licence was not accepted (see --yes)" in err


def test_fetch_asks_nobody_who_is_not_at_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    status, out, err = models(capsys, "fetch")
    assert status == 1
    assert "[y/N]" not in out
    assert "was not accepted" in err


def test_fetch_says_that_it_waits_for_another_process(capsys, tmp_path, monkeypatch):
    downloads = tmp_path / "downloads"
    held, waits = threading.Event(), threading.Event()

    def hold():
        with locked(downloads / manifest.COMMIT[:12]):
            held.set()
            assert waits.wait(60)

    def say(line=""):
        _say(line)
        if "waiting" in line:
            waits.set()

    monkeypatch.setattr(verb, "_say", say)
    monkeypatch.setattr(verb, "Connection", partial(Connection, wait_s=0.01))
    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(20)
    given = ("fetch", "--yes", "--base-url", "http://127.0.0.1:9/", "--downloads", downloads)
    status, out, _ = models(capsys, *given)
    assert status == 1
    assert out.endswith("another process is downloading these files; waiting for it\n")


def test_progress_has_a_bar_a_file_that_stands_where_its_download_does():
    with _progress_bars() as progress:
        progress("a", 100, None)
        first = progress.bar
        progress("a", 300, 400)
        assert progress.bar is first
        assert (first.n, first.total, first.desc) == (300, 400, "a")
        progress("b", 5, 50)
        second = progress.bar
        assert (second.n, second.total, second.desc) == (5, 50, "b")
        assert (first.disable, second.disable) == (True, False)  # closed, or not
    assert second.disable


ANSWERS = {"y": True, "YES": True, " yes ": True, "n": False, "": False, "yesterday": False}


@pytest.mark.parametrize(("answer", "goes_on"), ANSWERS.items())
def test_fetch_takes_an_answer_on_a_terminal(capsys, monkeypatch, tmp_path, answer, goes_on):
    master, terminal = os.openpty()
    os.write(master, f"{answer}\n".encode())
    (tmp_path / "file").write_text("")
    with open(terminal) as stdin:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", stdin)
        status, out, err = models(capsys, "fetch", "--downloads", tmp_path / "file")
    os.close(master)
    assert status == 1
    assert "Download these files and accept this? [y/N]" in out
    assert ("cannot be written" in err) == goes_on
    assert ("was not accepted" in err) != goes_on


class _Release(http.server.SimpleHTTPRequestHandler):
    """Serves a flat folder under the paths of the release."""

    def translate_path(self, path):
        return f"{self.directory}/{path.rsplit('/', 1)[-1]}"

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start a server of a flat folder; its URL."""
    servers = []

    def start(folder):
        def handler(*arguments):
            return _Release(*arguments, directory=str(folder))

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def mirror(release_folder, serve):
    return serve(release_folder)


def test_fetch_refuses_a_mirror_with_other_files(capsys, release_folder, tmp_path, mirror):
    path = release_folder / manifest.FACE_MODEL.name
    if manifest.FACE_MODEL.is_genuine(path.read_bytes()):
        pytest.skip("this face model is the release's own")
    downloads = tmp_path / "downloads"
    status, _, err = models(
        capsys, "fetch", "--yes", "--base-url", mirror, "--downloads", downloads
    )
    assert status == 1
    last = err.splitlines()[-1]
    assert "bfm_noneck_v3.pkl: not the expected content" in last
    assert list(downloads.rglob("bfm*")) == []
    assert not (tmp_path / "home/.cache/tddfa_ros/models").exists()


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ((), {"tddfa_v2": "mb1"}),
        (("--regressor", "mb05"), {"tddfa_v2": "mb05"}),
        (("--regressor", "both"), {"tddfa_v2": "mb1", "tddfa_v2_mb05": "mb05"}),
    ],
)
def test_fetch_makes_the_sets_that_are_asked_for(
    capsys, tmp_path, release_folder, serve, monkeypatch, options, made
):
    """Of what files there are, as if they were the release's, the half-width weights as both."""

    def as_there_is(file):
        there = release_folder / file.name
        path = there if there.exists() else release_folder / manifest.REGRESSORS["mb05"].name
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / file.name).symlink_to(path)
        content = path.read_bytes()
        return dataclasses.replace(
            file, size_bytes=len(content), git_blob_id=manifest.git_blob_id(content), sha256=""
        )

    common = tuple(as_there_is(file) for file in manifest.COMMON_FILES)
    regressors = {name: as_there_is(file) for name, file in manifest.REGRESSORS.items()}
    monkeypatch.setattr(manifest, "COMMON_FILES", common)
    monkeypatch.setattr(manifest, "REGRESSORS", regressors)
    given = ("--base-url", serve(tmp_path / "files"), "--downloads", tmp_path / "downloads")
    status, out, err = models(capsys, "fetch", "--yes", *given, *options)
    assert status == 0, err
    used = {
        path.name: model_set.read_description(path).provenance["regressor"]
        for path in (tmp_path / "home/.cache/tddfa_ros/models").iterdir()
    }
    assert used == made
    for name in made:
        assert f"use it with --model-set {name}\n" in out
    downloaded = {path.name for path in (tmp_path / "downloads").rglob("*.pth")}
    assert downloaded == {manifest.DETECTOR.name, *(regressors[k].name for k in made.values())}


def test_fetch_yunet_shows_its_licence_and_makes_a_set_of_the_base(
    capsys, tmp_path, serve, monkeypatch, yunet_like
):
    content = yunet_like()
    file = dataclasses.replace(
        yunet.FILE, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(yunet, "FILE", file)
    (tmp_path / file.name).write_bytes(content)
    url = serve(tmp_path)
    downloads = tmp_path / "downloads"
    given = ("fetch", "yunet", "--base", "embedded", "--base-url", url, "--downloads", downloads)
    status, out, err = models(capsys, *given)
    assert (status, list(tmp_path.glob("downloads/*"))) == (1, [])
    assert "MIT licence" in out
    assert "was not accepted" in err
    status, out, err = models(capsys, *given, "--yes")
    assert status == 0, err
    assert "use it with --model-set embedded_yunet" in out
    assert [path.name for path in downloads.iterdir()] == [yunet.COMMIT[:12]]
    status, out, _ = models(capsys, "verify", "embedded_yunet")
    assert status == 0, out


def test_a_base_that_is_the_present_folder_gives_its_name(
    capsys, repository, tmp_path, monkeypatch, yunet_like
):
    content = yunet_like()
    checksum = hashlib.sha256(content).hexdigest()
    file = dataclasses.replace(yunet.FILE, size_bytes=len(content), sha256=checksum)
    monkeypatch.setattr(yunet, "FILE", file)
    path = tmp_path / "downloads" / yunet.COMMIT[:12] / file.repository_path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.chdir(repository / "models" / "embedded")
    given = ("fetch", "yunet", "--base", ".", "--yes", "--downloads", tmp_path / "downloads")
    status, out, err = models(capsys, *given)
    assert status == 0, err
    assert "use it with --model-set embedded_yunet" in out


def test_fetch_yunet_refuses_a_regressor(capsys):
    status, _, err = models(
        *(capsys, "fetch", "yunet", "--yes", "--base", "embedded", "--regressor", "mb1"),
        *("--base-url", "http://127.0.0.1:9/"),
    )
    assert status == 1
    assert "--regressor mb1: yunet takes that of its --base set" in err


def test_fetch_yunet_refuses_other_content(capsys, tmp_path, serve, yunet_like):
    """An LFS pointer, as a mirror without LFS gives, and a network that somebody changed."""
    for content in (b"version https://git-lfs.github.com/spec/v1\n", yunet_like()):
        (tmp_path / yunet.FILE.name).write_bytes(content)
        url = serve(tmp_path)
        status, _, err = models(
            *(capsys, "fetch", "yunet", "--base", "embedded", "--yes", "--base-url", url),
            *("--downloads", tmp_path / "downloads"),
        )
        assert status == 1
        assert "expected 232589" in err
    assert not (tmp_path / "home/.cache/tddfa_ros/models").exists()
