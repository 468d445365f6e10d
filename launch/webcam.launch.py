"""Faces from a webcam: ``ros2 launch tddfa_ros webcam.launch.py``."""

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

PASSED_ON = (
    "input",
    "params_file",
    "model_set",
    "overlay",
    "camera_info_file",
    "frame_id",
    "namespace",
    "rviz",
)


def generate_launch_description() -> LaunchDescription:
    """Play a camera: video.launch.py with what fits a live source."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "input", default_value="0", description="Number or device of the webcam."
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution(
                    [ThisLaunchFileDir(), "..", "config", "face_node.yaml"]
                ),
                description="Parameters of the face node; the arguments here win over them.",
            ),
            DeclareLaunchArgument(
                "model_set",
                default_value="",
                description="Model set, name or path; empty: as in params_file.",
            ),
            DeclareLaunchArgument(
                "overlay",
                default_value="",
                description="What is drawn on faces/overlay, separated by commas; empty: as in "
                "params_file.",
            ),
            DeclareLaunchArgument(
                "camera_info_file",
                default_value="",
                description="Calibration (YAML of camera_calibration, path or file://); "
                "empty: none, and so no metric poses.",
            ),
            DeclareLaunchArgument(
                "frame_id", default_value="camera", description="Coordinate frame of the images."
            ),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of all topics and nodes."
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", description="Whether to show the result in RViz."
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([ThisLaunchFileDir(), "video.launch.py"])
                ),
                launch_arguments={
                    **{name: LaunchConfiguration(name) for name in PASSED_ON},
                    "loop": "false",
                }.items(),
            ),
        ]
    )
