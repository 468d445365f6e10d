"""Faces from a video, image, folder, bag or camera.

``ros2 launch tddfa_ros video.launch.py input:=clip.mp4``; ``--show-args`` lists the arguments.
"""

import os
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(__file__).resolve().parent.parent
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def _text(name: str) -> ParameterValue:
    """A launch argument that stays a string even if it looks like a number."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def _arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument(
            "input",
            description="Video, image, folder of images, rosbag2 recording, webcam number.",
        ),
        DeclareLaunchArgument(
            "model_set", default_value="", description="Model set, name or path; empty: any."
        ),
        DeclareLaunchArgument(
            "loop", default_value="true", description="Whether to begin again at the end."
        ),
        DeclareLaunchArgument(
            "overlay",
            default_value="landmarks,pose,box,id",
            description="What is drawn on faces/overlay, separated by commas.",
        ),
        DeclareLaunchArgument(
            "frame_policy",
            default_value="latest",
            choices=["latest", "every"],
            description="Process the newest image and drop the others, or process every image.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of all topics and nodes."
        ),
        DeclareLaunchArgument(
            "rviz", default_value="false", description="Whether to show the result in RViz."
        ),
    ]


def _fastdds_profile() -> list[SetEnvironmentVariable]:
    """Have whole images pass between processes, unless the user chose a profile; see the README."""
    if any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return []
    profile = str(SHARE / "config" / "fastdds.xml")
    return [SetEnvironmentVariable(name, profile) for name in PROFILE_VARIABLES]


def generate_launch_description() -> LaunchDescription:
    """Start a media source and a face node; the end of the media ends both."""
    media_source = Node(
        package="tddfa_ros",
        executable="media_source",
        name="media_source",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            str(SHARE / "config" / "media_source.yaml"),
            {
                "input": _text("input"),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "wait_for_subscribers": 1,
            },
        ],
        output="screen",
    )
    face_node = Node(
        package="tddfa_ros",
        executable="face_node",
        name="face_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            str(SHARE / "config" / "face_node.yaml"),
            {
                "model_set": _text("model_set"),
                "overlay": _text("overlay"),
                "frame_policy": _text("frame_policy"),
            },
        ],
        output="screen",
        respawn=True,
        respawn_delay=2.0,
        respawn_max_retries=5,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    end_with_media = RegisterEventHandler(
        OnProcessExit(
            target_action=media_source,
            on_exit=[EmitEvent(event=Shutdown(reason="the media source has ended"))],
        )
    )
    return LaunchDescription(
        [*_arguments(), *_fastdds_profile(), face_node, media_source, rviz, end_with_media]
    )
