"""What the face node publishes in metres: TF, depth, points and markers."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from tddfa_ros.core.metric_frame import MetricFrame
from tddfa_ros.core.outputs import Scene
from tddfa_ros.core.rotation import quat_from_rotation
from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.face_markers import FaceMarkers
from tddfa_ros.nodes.marker_messages import MarkerShape, encode_markers
from tddfa_ros.nodes.point_cloud import encode_points, face_points
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image
from tddfa_ros.nodes.transforms import TransformOutput

CHILD_FRAME = "face_{}"


class MetricOutputs:
    """Publishers of metric outputs.

    Parameters
    ----------
    node : publishers are made on it at once
    markers : of the face model in use
    qos : of all topics but /tf
    """

    def __init__(self, node: LifecycleNode, markers: FaceMarkers, qos: QoSProfile) -> None:
        self.markers = markers
        self._node = node
        self._log: RcutilsLogger = node.get_logger()
        self._last_header = ImageHeader(0, 0, "")
        self._depth = node.create_lifecycle_publisher(Image, "faces/depth", qos)
        self._points = node.create_lifecycle_publisher(PointCloud2, "faces/points", qos)
        self._markers = node.create_lifecycle_publisher(MarkerArray, "faces/markers", qos)
        self._transforms = TransformOutput(node)

    def wants_image(self) -> bool:
        """Whether :meth:`publish_dense` would do anything."""
        return any(p.get_subscription_count() > 0 for p in (self._depth, self._points))

    def publish_poses(self, frame: MetricFrame, header: ImageHeader) -> None:
        """Publish TF and, if it is time for them, markers."""
        self._last_header = header
        if frame.calibrated:
            self._publish_tf(frame, header)
        due = self.markers.due(frame.result.stamp_ns)
        if due and self._markers.get_subscription_count() > 0:
            self._send(self.markers.shapes(frame), header)

    def publish_dense(self, frame: MetricFrame, header: ImageHeader, scene: Scene) -> None:
        """Publish the outputs of all vertices that somebody subscribes to."""
        if self._points.get_subscription_count() > 0:
            self._points.publish(encode_points(_points(frame, scene), header))
        if frame.calibrated and self._depth.get_subscription_count() > 0:
            depth = scene.frame.depth_metric(_depths(frame, scene))
            self._depth.publish(encode_image(depth, header, "32FC1", channels=1))

    def clear(self) -> None:
        """Have viewers remove all markers."""
        self._send(self.markers.clear(), self._last_header)

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (self._depth, self._points, self._markers):
            self._node.destroy_lifecycle_publisher(publisher)
        self._transforms.close()

    def _send(self, shapes: list[MarkerShape], header: ImageHeader) -> None:
        if shapes:
            self._markers.publish(encode_markers(shapes, header))

    def _publish_tf(self, frame: MetricFrame, header: ImageHeader) -> None:
        if not header.frame_id:
            self._log.warning("images without frame_id: no TF", once=True)
            return
        if not header.stamp_ns:
            # Of equal stamps tf2 keeps the first, for ever: the face would stand still.
            if frame.result.stamp_ns:  # Stamps that begin at 0 are some.
                self._log.warning("images without stamp: no TF", once=True)
            return
        self._transforms.publish(
            [
                face_transform(face.id, pose, header)
                for face, pose in zip(frame.result.faces, frame.poses, strict=True)
                if pose is not None
            ]
        )


def face_transform(face_id: str, pose: MetricPose, header: ImageHeader) -> TransformStamped:
    """Transform from the frame of the image to that of a face."""
    x, y, z = pose.position_m.tolist()
    qx, qy, qz, qw = quat_from_rotation(pose.rotation).tolist()
    return TransformStamped(
        header=header.message(),
        child_frame_id=CHILD_FRAME.format(face_id),
        transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
    )


def _points(frame: MetricFrame, scene: Scene) -> np.ndarray:
    placed = [i for i, pose in enumerate(frame.placed) if pose is not None]
    return face_points(
        [frame.vertices_m(i) for i in placed],
        [scene.frame.vertex_colors_bgr(i) for i in placed],
        placed,
        has_metric_pose=frame.calibrated,
    )


def _depths(frame: MetricFrame, scene: Scene) -> list[np.ndarray]:
    """Depth of every vertex of every face; NaN for a face without a pose."""
    depths = []
    for index, mesh in enumerate(scene.frame.vertices):
        placed = frame.vertices_m(index)
        nowhere = np.full((len(mesh), 1), np.nan, np.float32)
        depths.append(nowhere if placed is None else np.ascontiguousarray(placed[:, 2:]))
    return depths
