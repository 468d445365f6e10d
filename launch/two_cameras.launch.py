"""Faces before two cameras, each in a namespace of its own.

``ros2 launch tddfa_ros two_cameras.launch.py left_input:=0 right_input:=2``; transforms are on
``/left/tf`` and ``/right/tf``, since both number their faces from one.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

DEFAULT_INPUTS = {"left": "0", "right": "2"}
SHARED = ("params_file", "model_set", "overlay", "loop", "frame_policy", "rviz")


def _arguments(side: str) -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument(
            f"{side}_input",
            default_value=DEFAULT_INPUTS[side],
            description=f"Webcam number or device, or any other media, of the {side} camera.",
        ),
        DeclareLaunchArgument(
            f"{side}_namespace",
            default_value=side,
            description=f"Namespace of the {side} camera's topics and nodes.",
        ),
        DeclareLaunchArgument(
            f"{side}_camera_info_file",
            default_value="",
            description=f"Calibration of the {side} camera (YAML, path or file://); empty: none.",
        ),
        DeclareLaunchArgument(
            f"{side}_frame_id",
            default_value=f"{side}_camera",
            description=f"Coordinate frame of the {side} camera's images.",
        ),
    ]


def _camera(side: str) -> GroupAction:
    """One camera; the group keeps its arguments from the other one."""
    own = ("input", "namespace", "camera_info_file", "frame_id")
    return GroupAction(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([ThisLaunchFileDir(), "video.launch.py"])
                ),
                launch_arguments={
                    **{name: LaunchConfiguration(f"{side}_{name}") for name in own},
                    **{name: LaunchConfiguration(name) for name in SHARED},
                    "tf_topic": "tf",
                }.items(),
            )
        ]
    )


def generate_launch_description() -> LaunchDescription:
    """Start video.launch.py twice; the end of one of the media ends both."""
    return LaunchDescription(
        [
            *(argument for side in DEFAULT_INPUTS for argument in _arguments(side)),
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
                "loop",
                default_value="false",
                description="Whether media that end begin again.",
            ),
            DeclareLaunchArgument(
                "frame_policy",
                default_value="",
                choices=["", "latest", "every"],
                description="Process the newest image and drop the others, or every image; empty: "
                "as in params_file.",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                description="Whether to show each camera in an RViz of its own.",
            ),
            *(_camera(side) for side in DEFAULT_INPUTS),
        ]
    )
