"""The exported set: the networks as trained, in the contract of the model sets."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core import model_set  # noqa: E402
from tddfa_ros.core.detect import Detector  # noqa: E402
from tddfa_ros.core.errors import ModelSetError  # noqa: E402
from tddfa_ros.core.model_set import ModelSet  # noqa: E402
from tddfa_ros.core.onnx_session import OnnxSession, TensorSpec  # noqa: E402
from tddfa_ros.training import checkpoint, decoding, embedded, evaluate, export, packed  # noqa: E402
from tddfa_ros.training import rig as rig_file  # noqa: E402
from tddfa_ros.training.camera_regressor import CameraRegressor  # noqa: E402
from tddfa_ros.training.networks import DetectorNet, RegressorNet  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402


def shaken(net, seed):
    """The network with random weights everywhere, also in the normalisation."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var") or name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("change.weight"):
                value.normal_(0, 0.02)
            elif value.dtype.is_floating_point and value.ndim == 1:
                value.add_(0.1 * torch.randn_like(value))
    return net.eval()


@pytest.fixture(scope="module")
def networks(rig):
    torch.manual_seed(0)
    return shaken(RegressorNet(rig, 16), 1), shaken(DetectorNet(), 2)


@pytest.fixture(scope="module")
def exported(networks, rig, rig_path, tmp_path_factory) -> ModelSet:
    run = tmp_path_factory.mktemp("run")
    for name, net in zip(("regressor", "detector"), networks, strict=True):
        state = {"average": net.state_dict(), "seen": 7, "rig": rig_file.digest(rig)}
        checkpoint.save(run / f"{name}.pt", state)
    return embedded.write(run, rig_path, run / "embedded", calibration_crops=16)


def test_set_loads_and_is_small_enough(exported, networks, rig):
    files = {file.name for file in exported.path.iterdir()}
    assert {"model.yaml", "detector.onnx", "regressor.onnx", "face_model.npz", "rig.npz"} <= files
    assert sum(f.stat().st_size for f in exported.path.iterdir()) < 15e6
    assert model_set.load(exported.path).name == "embedded"
    assert exported.face_model.metres_per_unit == 1
    begun = RegressorNet(rig, 16)
    assert packed.unpack(begun, exported.path / embedded.WEIGHTS_FILE) == 7
    torch.testing.assert_close(begun.head.weight, networks[0].head.weight, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5])
def test_regressor_in_floating_point_computes_what_was_trained(networks, count, rng, tmp_path):
    """Rounded to integers: see test_quantise."""
    crops = rng.integers(0, 256, (count, 120, 120, 3)).astype(np.uint8)
    path = tmp_path / "regressor.onnx"
    path.write_bytes(export.regressor_onnx(networks[0]))
    session = OnnxSession(
        path,
        threads=1,
        inputs={"crops": TensorSpec("uint8", (None, 120, 120, 3))},
        outputs={
            "params": TensorSpec("float32", (None, 68)),
            "confidence": TensorSpec("float32", (None,)),
        },
    )
    params, confidence = session.run({"crops": crops})
    with torch.no_grad():
        fit = decoding.decode(networks[0](torch.from_numpy(crops)), 40, 16)
    # From pixels of the crop, y down, to where they lie from its edges, x from 1 and y up.
    place = np.stack([fit.centre[:, 0] + 1.5, 119.5 - fit.centre[:, 1], np.zeros(count)], axis=1)
    linear = (fit.rotation * fit.scale[:, None, None]).numpy()
    camera = np.concatenate([linear, place[:, :, None]], axis=2).reshape(count, 12)
    wanted = np.concatenate([camera, fit.shape, fit.expression], axis=1)
    np.testing.assert_allclose(params, wanted, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(confidence, torch.sigmoid(fit.logit), atol=1e-4)


def test_a_face_that_looks_exactly_up_is_answered(networks, rng):
    """No direction on the picture is up for it; its eyes are seen somehow, and no row of pixels
    that there is not is asked for."""
    close = CameraRegressor(networks[0]).close_ups[0]
    crops = torch.from_numpy(rng.integers(0, 256, (2, 120, 120, 3)).astype(np.uint8))
    rows = torch.tensor([[1.0, 0, 0, 0, 0, 1], [1.0, 0, 0, 0, 1, 0]])
    known = torch.cat([rows, torch.zeros(2, 3 + 56)], dim=1)
    middles = torch.tensor([[[70.0, 50], [55, 55]]]).expand(2, -1, -1)
    with torch.no_grad():
        change = close(crops, torch.arange(2), middles, rows, torch.zeros(2, 1), known)
    assert change.isfinite().all()
    assert change.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize("size", [(480, 640), (97, 131), (64, 64)])
def test_detector_computes_what_was_trained_at_any_size(
    exported, networks, open_detector, size, rng
):
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    boxes, scores = open_detector(exported.detector_path).run({"image": image})
    with torch.no_grad():
        wanted = export.BoxDetector(networks[1])(torch.from_numpy(image))
    np.testing.assert_allclose(boxes, wanted[0].numpy(), rtol=1e-3, atol=0.05)
    # Of two equal neighbours rounding says which is the peak.
    same = np.abs(scores - wanted[1].numpy()) < 1e-4
    assert same.mean() > 0.999 - 2 / len(scores)
    assert len(Detector(exported, threads=1).detect(image, 1.0)) == 0


def test_landmarks_of_the_set_are_those_of_the_training(exported, networks, rig, rng, tmp_path):
    """Through the set's camera and mesh come the points that the loss has seen.

    In floating point: how rounding moves those of random weights differs from seed to seed.
    """
    shutil.copytree(exported.path, tmp_path / "set")
    exact = replace(exported, path=tmp_path / "set")
    exact.regressor_path.write_bytes(export.regressor_onnx(networks[0]))
    crop = rng.integers(0, 256, (120, 120, 3)).astype(np.uint8)
    fitter = evaluate.Fitter(exact, mirrored=False)
    # A region twice as large as the crop, for which the camera's pixel convention is exact.
    image = np.repeat(np.repeat(crop, 2, axis=0), 2, axis=1)
    _, landmarks = fitter.fit(image, np.array([0, 0, 240, 240], np.float32))
    with torch.no_grad():
        fit = decoding.decode(networks[0](torch.from_numpy(crop[None])), 40, 16)
        dense = np.zeros(0, np.int32)
        points = decoding.PointModel.at_truth(rig, dense, 16)(fit)[0].numpy()
    expected = (points[:, :2] + 0.5) * 2 - 0.5
    assert np.abs(landmarks[:, :2] - expected).max() < 0.3
    assert np.abs((landmarks[:, :2] - expected).mean(axis=0)).max() < 0.05


def test_a_run_without_a_detector_takes_that_of_another_set(exported, networks, rig_path, tmp_path):
    checkpoint.save(tmp_path / "regressor.pt", {"average": networks[0].state_dict(), "seen": 9})
    out = tmp_path / "out"
    base = tmp_path / "base"
    shutil.copytree(exported.path, base)
    description = base / "model.yaml"
    text = description.read_text()
    description.write_text(text.replace("score_threshold: 0.4", "score_threshold: 0.45"))
    again = embedded.write(tmp_path, rig_path, out, base=base, calibration_crops=16)
    assert again.detector_path.read_bytes() == exported.detector_path.read_bytes()
    assert again.detector == replace(exported.detector, score_threshold=0.45)
    provenance = model_set.read_description(out).provenance
    assert (provenance["regressor_crops_seen"], provenance["detector_scenes_seen"]) == (9, 7)
    description.write_text(text.replace("licence: CC0-1.0", "licence: MIT"))
    with pytest.raises(ModelSetError, match="MIT"):
        embedded.write(tmp_path, rig_path, out, base=base, calibration_crops=16)


def test_a_run_without_a_regressor_takes_that_of_another_set(
    exported, networks, rig_path, tmp_path
):
    checkpoint.save(tmp_path / "detector.pt", {"average": networks[1].state_dict(), "seen": 11})
    again = embedded.write(tmp_path, rig_path, tmp_path / "out", base=exported.path)
    for name in ("regressor.onnx", embedded.WEIGHTS_FILE):
        assert (again.path / name).read_bytes() == (exported.path / name).read_bytes()
    before, after = map(model_set.read_description, (exported.path, again.path))
    assert after.provenance == before.provenance | {"detector_scenes_seen": 11}
    assert after.regressor == before.regressor


@pytest.mark.parametrize("name", ["regressor", "detector"])
def test_networks_are_not_exported_with_another_rig_than_their_own(
    exported, networks, rig, tmp_path, name
):
    net = dict(zip(("regressor", "detector"), networks, strict=True))[name]
    state = {"average": net.state_dict(), "seen": 7, "rig": rig_file.digest(rig)}
    base = {"base": exported.path, "calibration_crops": 16}
    checkpoint.save(tmp_path / f"{name}.pt", state)
    other = replace(rig, mean=rig.mean * np.float32(1.01))
    rig_file.save(other, tmp_path / "other.npz")
    with pytest.raises(TrainingError, match=rf"{name}\.pt .* another rig"):
        embedded.write(tmp_path, tmp_path / "other.npz", tmp_path / "out", **base)


def test_missing_state_is_named(tmp_path, rig_path):
    with pytest.raises(ModelSetError, match=r"regressor\.pt"):
        embedded.write(tmp_path, rig_path, tmp_path / "out", calibration_crops=16)


def test_foreign_folders_are_refused_before_the_work(rig_path, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(ModelSetError, match="no model set"):
        embedded.write(tmp_path, rig_path, tmp_path / "out", calibration_crops=16)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert not list(tmp_path.glob(".out*"))
