"""Faces from a video, image, folder, bag or camera.

``ros2 launch tddfa_ros video.launch.py input:=clip.mp4``; ``--show-args`` lists the arguments.
"""

import os
from pathlib import Path

from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(__file__).resolve().parent.parent
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
RVIZ_TOPICS = ("faces/markers", "faces/points", "faces/overlay", "faces/depth")
# Exit codes of a node that has ended or said what is wrong; after any other it died.
ENDED = (0, 1)
RESPAWN = {"respawn": True, "respawn_delay": 2.0, "respawn_max_retries": 5}
# Arguments that are parameters of the face node; an empty one leaves what params_file says.
OVER_THE_FILE = ("model_set", "overlay", "frame_policy")


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
            "loop", default_value="true", description="Whether to begin again at the end."
        ),
        DeclareLaunchArgument(
            "overlay",
            default_value="",
            description="What is drawn on faces/overlay, separated by commas; empty: as in "
            "params_file.",
        ),
        DeclareLaunchArgument(
            "frame_policy",
            default_value="",
            choices=["", "latest", "every"],
            description="Process the newest image and drop the others, or process every image; "
            "empty: as in params_file.",
        ),
        DeclareLaunchArgument(
            "bag_topic", default_value="", description="Image topic of a bag; empty: the first."
        ),
        DeclareLaunchArgument(
            "pace",
            default_value="time",
            choices=["time", "answered"],
            description="Play at the source's own pace, or as fast as the faces are answered.",
        ),
        DeclareLaunchArgument(
            "start_s", default_value="0.0", description="Seconds left out at the beginning."
        ),
        DeclareLaunchArgument(
            "end_s", default_value="0.0", description="Seconds after which it ends; 0: plays all."
        ),
        DeclareLaunchArgument(
            "camera_info_file",
            default_value="",
            description="Calibration (YAML of camera_calibration, path or file://); empty: none.",
        ),
        DeclareLaunchArgument(
            "frame_id",
            default_value="camera",
            description="Coordinate frame of the images and fixed frame of RViz; images of a bag "
            "keep their own, so name that of the recording.",
        ),
        DeclareLaunchArgument(
            "tf_topic",
            default_value="/tf",
            description="Topic of the transforms; 'tf' puts them into the namespace.",
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


def _number(name: str) -> ParameterValue:
    return ParameterValue(LaunchConfiguration(name), value_type=float)


def _end_with(node: Node) -> RegisterEventHandler:
    """End everything with a node, unless it died: then it is started again."""

    def on_exit(event: ProcessExited, _: LaunchContext) -> list[Action]:
        if event.returncode not in ENDED:
            return []
        return [EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))]

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit))


def _face_node(context: LaunchContext) -> list[Action]:
    """Start the face node, with those arguments over its file that are not empty."""
    file = Path(LaunchConfiguration("params_file").perform(context))
    if not file.is_file():  # of which launch_ros would only warn
        raise FileNotFoundError(f"params_file {file}: no such file")
    given = [name for name in OVER_THE_FILE if LaunchConfiguration(name).perform(context)]
    face_node = Node(
        package="tddfa_ros",
        executable="face_node",
        name="face_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[str(file), {name: _text(name) for name in given}],
        remappings=[("/tf", LaunchConfiguration("tf_topic"))],
        output="screen",
        **RESPAWN,
    )
    return [face_node, _end_with(face_node)]


def generate_launch_description() -> LaunchDescription:
    """Start a media source and a face node; the end of the media ends both.

    The face node brings itself to active. A node that dies is started again.
    """
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
                "wait_for_nodes": "face_node",
                "bag_topic": _text("bag_topic"),
                "pace": _text("pace"),
                "start_s": _number("start_s"),
                "end_s": _number("end_s"),
                "camera_info_file": _text("camera_info_file"),
                "frame_id": _text("frame_id"),
            },
        ],
        output="screen",
        **RESPAWN,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        # The file's own fixed frame is "camera"; what has another frame would not be shown in 3D.
        arguments=[
            "-d",
            str(SHARE / "config" / "faces.rviz"),
            "-f",
            LaunchConfiguration("frame_id"),
        ],
        remappings=[
            *((f"/{topic}", topic) for topic in RVIZ_TOPICS),
            ("/tf", LaunchConfiguration("tf_topic")),
        ],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            *_arguments(),
            *_fastdds_profile(),
            OpaqueFunction(function=_face_node),
            media_source,
            rviz,
            _end_with(media_source),
        ]
    )
