"""ROS in this process, alone on its domain (test/conftest.py chooses that)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter


@pytest.fixture
def ros() -> Iterator[None]:
    """Initialise ROS for one test."""
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


@pytest.fixture
def make_face_node(ros, tddfa_v2_set: Path) -> Iterator[Callable[..., Any]]:
    """Make face nodes that are not started; all are closed at the end."""
    from tddfa_ros.nodes.face_node import FaceNode

    nodes: list[FaceNode] = []

    def make(**parameters: object) -> FaceNode:
        values = {"model_set": str(tddfa_v2_set)} | parameters
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(FaceNode(parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def plain_node(ros) -> Iterator[Node]:
    """A node without anything."""
    node = rclpy.create_node("plain")
    yield node
    node.destroy_node()
