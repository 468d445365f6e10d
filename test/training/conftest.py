"""The rig of the tests: the committed one, else a coarse one from the MakeHuman head."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.training import face_region, makehuman
from tddfa_ros.training import rig as rig_file


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run in as many processes as there are cores."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_numbers_each_time() -> None:
    """Which tests ran before in a process differs from run to run."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)


@pytest.fixture(scope="session")
def head_file(shared: Path) -> Path:
    return shared / "makehuman" / "makehuman_head_cc0.npz"


@pytest.fixture(scope="session")
def head(head_file: Path) -> makehuman.MakeHumanHead:
    return makehuman.load(head_file)


@pytest.fixture(scope="session")
def rig_path(
    repository: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    committed = repository / "models" / "embedded" / "rig.npz"
    if committed.exists():
        return committed
    path = tmp_path_factory.mktemp("rig") / "rig.npz"
    rig_file.save(rig_file.build(request.getfixturevalue("head"), samples=120), path)
    return path


@pytest.fixture(scope="session")
def rig(rig_path: Path) -> rig_file.Rig:
    return rig_file.load(rig_path)


@pytest.fixture(scope="session")
def face_model(rig: rig_file.Rig) -> FaceModel:
    return face_region.build(rig)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def crops():
    """Smooth pictures: noise alone would leave hardly anything behind the first layer."""
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(0, 255, (16, 3, 9, 9)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(120, 120), mode="bilinear")
    return fine.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


@pytest.fixture(scope="session")
def open_regressor(rig):
    """Makes a regressor of random weights, all of which matter; a new one's branches are shut."""
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    from tddfa_ros.training.networks import RegressorNet

    def make():
        torch.manual_seed(4)
        net = RegressorNet(rig, 16)
        for name, value in net.named_parameters():
            if name.endswith("norm.weight"):
                torch.nn.init.uniform_(value, 0.5, 1.5)
        torch.nn.init.normal_(net.head.weight, 0, 0.02)
        for look in (*net.looks, *net.close_ups):
            torch.nn.init.normal_(look.change.weight, 0, 0.01)
        return net

    return make
