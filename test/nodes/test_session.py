"""What a session sets up before its nodes start; test/end_to_end runs whole ones."""

import os

import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from tddfa_ros.nodes.session import use_fastdds_profile

VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A profile of ours that is installed, and none that is chosen; its path."""
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    profile = tmp_path / "share" / "tddfa_ros" / "config" / "fastdds.xml"
    for folder in (index, profile.parent):
        folder.mkdir(parents=True)
    (index / "tddfa_ros").touch()
    profile.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    return profile


def profiles():
    return [os.environ[name] for name in VARIABLES]


def test_our_profile_is_chosen_where_it_is_installed(installed):
    use_fastdds_profile()
    assert profiles() == [str(installed)] * 2


@pytest.mark.parametrize("name", VARIABLES)
def test_a_profile_that_the_user_chose_stays(installed, monkeypatch, name):
    monkeypatch.setenv(name, "/mine.xml")
    before = profiles()
    use_fastdds_profile()
    assert profiles() == before


@pytest.mark.parametrize("lacking", ["file", "package"])
def test_without_our_profile_none_is_chosen(installed, tmp_path, monkeypatch, lacking):
    if lacking == "file":
        installed.unlink()
    else:
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "empty"))
    use_fastdds_profile()
    assert profiles() == ["", ""]
