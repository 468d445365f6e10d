"""The weights of an exported detector: the same network again, to train on from."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core import model_set  # noqa: E402
from tddfa_ros.core.onnx_session import OnnxSession, TensorSpec  # noqa: E402
from tddfa_ros.training import checkpoint, detector_weights, export  # noqa: E402
from tddfa_ros.training.networks import DetectorNet  # noqa: E402
from tddfa_ros.training.recipe import Recipe  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402
from tddfa_ros.training.train_detector import DetectorTraining  # noqa: E402


@pytest.fixture
def embedded(repository):
    return repository / "models" / "embedded"


def test_the_network_is_the_exported_one(embedded, rng):
    net = DetectorNet()
    seen = detector_weights.unpack(net, embedded)
    assert seen == model_set.read_description(embedded).provenance["detector_scenes_seen"]
    image = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    session = OnnxSession(
        model_set.load(embedded).detector_path,
        threads=1,
        inputs={"image": TensorSpec("uint8", (None, None, 3))},
        outputs={
            name: TensorSpec("float32", (None,) * n)
            for name, n in (("boxes_xyxy", 2), ("scores", 1))
        },
    )
    boxes, scores = export.BoxDetector(net.eval())(torch.from_numpy(image))
    before = session.run({"image": image})
    np.testing.assert_allclose(boxes.detach(), before[0], atol=1e-2)
    np.testing.assert_allclose(scores.detach(), before[1], atol=1e-5)


def test_another_detector_is_refused(tddfa_v2_set):
    with pytest.raises(TrainingError, match="its detector is not of this training"):
        detector_weights.unpack(DetectorNet(), tddfa_v2_set)


def test_a_run_goes_on_from_it_and_holds_the_normalisations(embedded, rig_path, tmp_path):
    recipe = Recipe(
        start=str(embedded),
        examples=16,
        workers=0,
        batch=8,
        replay=64,
        pool=24,
        held_out=4,
        rate=1e-4,
        muon_rate=1e-3,
        warm_up=1,
    )
    before = DetectorNet()
    seen = detector_weights.unpack(before, embedded)
    DetectorTraining(rig_path, tmp_path, recipe).run()
    state = checkpoint.load(tmp_path / "detector.pt")
    assert (state["seen"], state["start_seen"]) == (16, seen)
    after = state["net"]
    for name, value in before.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    changed = (after["stem.0.weight"] - before.stem[0].weight).abs().max()
    assert 0 < float(changed.detach()) < 0.01
