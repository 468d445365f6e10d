"""Faces of a recording: ``ros2 launch tddfa_ros bag_replay.launch.py input:=recording``.

Every image is processed, so that each replay gives the same faces.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

PASSED_ON = (
    "input",
    "bag_topic",
    "pace",
    "start_s",
    "end_s",
    "loop",
    "frame_policy",
    "params_file",
    "model_set",
    "overlay",
    "camera_info_file",
    "frame_id",
    "namespace",
    "rviz",
)


def generate_launch_description() -> LaunchDescription:
    """Play a recording: video.launch.py with what fits a replay."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("input", description="Recording of rosbag2, sqlite3 or MCAP."),
            DeclareLaunchArgument(
                "bag_topic",
                default_value="",
                description="Image topic of the recording, raw or compressed; empty: the first.",
            ),
            DeclareLaunchArgument(
                "pace",
                default_value="time",
                choices=["time", "answered"],
                description="Play as it was recorded, or as fast as the faces are answered.",
            ),
            DeclareLaunchArgument(
                "start_s", default_value="0.0", description="Seconds left out at the beginning."
            ),
            DeclareLaunchArgument(
                "end_s",
                default_value="0.0",
                description="Seconds after which it ends; 0: plays all.",
            ),
            DeclareLaunchArgument(
                "loop", default_value="false", description="Whether to begin again at the end."
            ),
            DeclareLaunchArgument(
                "frame_policy",
                default_value="every",
                choices=["", "latest", "every"],
                description="Process every image, or the newest one as with a camera; empty: as "
                "in params_file.",
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
                description="Calibration in place of the recording's own; empty: that one.",
            ),
            DeclareLaunchArgument(
                "frame_id",
                default_value="camera",
                description="Frame of the images for RViz; those of a bag keep their own, so name "
                "that of the recording.",
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
                launch_arguments={name: LaunchConfiguration(name) for name in PASSED_ON}.items(),
            ),
        ]
    )
