"""What the face node publishes; nothing is made that nobody subscribes to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.metric_frame import MetricFrame, MetricFrames
from tddfa_ros.core.outputs import Scene
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.types import FrameResult
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.face_markers import FaceMarkers
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.humans import humans_output
from tddfa_ros.nodes.metric_outputs import MetricOutputs
from tddfa_ros.nodes.picture_outputs import PictureOutputs
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

FACES_DEPTH = 10
ACKNOWLEDGE_TIMEOUT_S = 0.5


class FaceOutputs:
    """The publishers of a face node.

    Parameters
    ----------
    node : publishers are made on it at once
    pipeline : whose results are published
    configs : settings of pipeline, metric poses and node
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: FacePipeline,
        configs: tuple[PipelineConfig, MetricConfig, FaceNodeConfig],
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        _, metric_config, config = configs
        # What is measured is left out then, so that the same images give the same bytes.
        self._repeatable = config.frame_policy == "every"
        self._model_set_name = pipeline.model_set.name
        self._frames = MetricFrames(pipeline.model, metric_config)
        markers = FaceMarkers(pipeline.model.face_model, config.marker_rate, config.marker_mesh)
        faces_qos = QoSProfile(depth=FACES_DEPTH)
        # A newer picture takes the place of one that a busy subscriber has not got yet. Here, too,
        # every image counts.
        image_qos = QoSProfile(depth=FACES_DEPTH if self._repeatable else 1)
        self._metric = MetricOutputs(node, markers, image_qos)
        self._pictures = PictureOutputs(node, config.texture_size, image_qos)
        self._humans = humans_output(node, wanted=config.humans)
        self.configure(configs)
        self._faces = node.create_lifecycle_publisher(FaceArray, "faces", faces_qos)
        self._raw_faces = node.create_lifecycle_publisher(FaceArray, "faces/raw", faces_qos)
        self._overlay = node.create_lifecycle_publisher(Image, "faces/overlay", image_qos)

    def configure(self, configs: tuple[PipelineConfig, MetricConfig, FaceNodeConfig]) -> None:
        """Take over settings between two images."""
        pipeline_config, metric_config, config = configs
        self._overlay_parts = tuple(config.overlay.split(","))
        self._visibility = config.landmark_visibility
        self._smooth = pipeline_config.smoothing != "none"
        self._frames.configure(metric_config)
        self._metric.markers.rate_hz = config.marker_rate
        self._metric.markers.mesh = config.marker_mesh
        self._pictures.configure(config.texture_size)

    def reset(self) -> None:
        """Forget all filters and have viewers remove the faces."""
        self._frames.reset()
        self._pictures.reset()
        self.clear()

    def clear(self) -> None:
        """Have viewers remove the faces."""
        if self._can_send:
            self._metric.clear()
            self._humans.clear()

    @property
    def _can_send(self) -> bool:
        """Whether ROS is there: somebody's own program may shut it down before the node closes."""
        return self._node.context.ok()

    def wants_image(self) -> bool:
        """Whether :meth:`publish` would do anything with an image."""
        return (
            self._visibility
            or self._overlay.get_subscription_count() > 0
            or self._pictures.wants_image()
            or self._metric.wants_image()
            or self._humans.wants_image()
        )

    def publish_raw_faces(
        self,
        result: FrameResult,
        header: ImageHeader,
        camera: Camera | None,
        seconds: float,
        missed: int,
    ) -> None:
        """Publish faces before smoothing."""
        if self._raw_faces.get_subscription_count() > 0:
            frame = self._frames.frame(result, camera, smooth=False)
            self._raw_faces.publish(self._serialized(frame, header, seconds, missed))

    def publish(
        self,
        result: FrameResult,
        header: ImageHeader,
        camera: Camera | None,
        seconds: float,
        missed: int,
        image_bgr: np.ndarray | None,
    ) -> None:
        """Publish smoothed faces, also when there are none, and all that somebody subscribes to.

        Parameters
        ----------
        image_bgr : what the faces were found in; None if :meth:`wants_image` said no
        """
        if not self._can_send:
            return
        frame = self._frames.frame(result, camera, smooth=self._smooth)
        scene = None if image_bgr is None else self._scene(frame, image_bgr)
        seen = []
        if scene is not None and self._visibility:
            seen = [scene.frame.landmark_visibility(k) for k in range(len(scene.faces))]
        self._faces.publish(self._serialized(frame, header, seconds, missed, seen))
        self._metric.publish_poses(frame, header)
        self._humans.publish(frame, header)
        if scene is not None:
            self._publish_images(frame, scene, header)

    def _serialized(
        self,
        frame: MetricFrame,
        header: ImageHeader,
        seconds: float,
        missed: int,
        visibilities: Sequence[np.ndarray] = (),
    ) -> bytes:
        return face_array_bytes(
            frame.result,
            header,
            model_set=self._model_set_name,
            processing_time_s=0.0 if self._repeatable else seconds,
            frames_dropped=missed,
            metric_poses=frame.poses,
            visibilities=visibilities,
        )

    def _scene(self, frame: MetricFrame, image_bgr: np.ndarray) -> Scene:
        """Vertices and visibility are the scene's: made by the first output that needs them."""
        return Scene(
            image_bgr,
            frame.result.faces,
            self._renderer,
            self._pipeline.model,
            vertices_of=self._pipeline.vertices_of,
        )

    def _publish_images(self, frame: MetricFrame, scene: Scene, header: ImageHeader) -> None:
        if self._overlay.get_subscription_count() > 0:
            self._overlay.publish(encode_image(scene.overlay(self._overlay_parts), header))
        self._pictures.publish(scene, header)
        self._metric.publish_dense(frame, header, scene)
        self._humans.publish_portraits(frame.result, header, scene.image_bgr)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._pipeline.model.face_model)

    def close(self) -> None:
        """Destroy the publishers, once the last faces have reached who listens."""
        for publisher in (self._raw_faces, self._faces) if self._can_send else ():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_TIMEOUT_S))
        for publisher in (self._faces, self._raw_faces, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)
        self._metric.close()
        self._pictures.close()
        self._humans.close()
