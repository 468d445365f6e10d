"""Faces in a stream of images, as ROS messages; run as ``python -m tddfa_ros.nodes.face_node``."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import (
    LifecycleNode,
    LifecyclePublisher,
    LifecycleState,
    TransitionCallbackReturn,
)
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core import model_set
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.errors import ConfigError, TddfaError
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.reunion import load_assignment
from tddfa_ros.nodes.camera_info_input import CameraInfoInput
from tddfa_ros.nodes.face_diagnostics import FaceDiagnostics
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.face_outputs import FaceOutputs
from tddfa_ros.nodes.face_worker import FaceWorker
from tddfa_ros.nodes.image_input import ImageInput
from tddfa_ros.nodes.impossible_transitions import refuse_impossible_transitions
from tddfa_ros.nodes.mesh_export import MeshExporter
from tddfa_ros.nodes.parameters import ConfigParameters
from tddfa_ros.nodes.process import run_node
from tddfa_ros.nodes.quality_of_service import (
    OVERRIDABLE,
    OutputMismatches,
    own_copy,
    refuse_changes_of_overrides,
    wrong_overrides,
)
from tddfa_ros.nodes.side_service import SideService

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE


def _logged(
    transition: Callable[[FaceNode, LifecycleState], TransitionCallbackReturn],
) -> Callable[[FaceNode, LifecycleState], TransitionCallbackReturn]:
    """Log what a transition raises; rclpy would drop it without a word."""

    @functools.wraps(transition)
    def logged(node: FaceNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except ParameterException as error:
            node.get_logger().fatal(f"{transition.__name__} failed: {error}")
            raise
        except Exception:
            node.get_logger().fatal(f"{transition.__name__} failed:\n{traceback.format_exc()}")
            raise

    return logged


class FaceNode(LifecycleNode):
    """Managed node: configure loads the networks, activate subscribes the images.

    :class:`FaceWorker` does the work, in the thread that runs the callbacks.

    Raises
    ------
    ConfigError
        A parameter given at start is refused.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("face_node", **node_options)
        self._pipeline: FacePipeline | None = None
        self._ids_given = 0
        self._outputs: FaceOutputs | None = None
        self._images: ImageInput | None = None
        self._cameras: CameraInfoInput | None = None
        self._worker: FaceWorker | None = None
        self._exporter: MeshExporter | None = None
        self._diagnostics: FaceDiagnostics | None = None
        self._enabled = True
        self._started = True
        self._mismatches = OutputMismatches(self)
        self._settings = ConfigParameters(
            self,
            (PipelineConfig, MetricConfig, FaceNodeConfig),
            is_running=lambda: self._pipeline is not None,
            fixed="Takes effect when the node is configured.",
            remedy="while the node is configured; deactivate it if it is active, clean it up, set "
            "the parameter, then configure and activate the node again",
            apply=self._apply,
        )
        # The newest callback is asked first: what it refuses is not applied.
        refuse_changes_of_overrides(self)
        refuse_impossible_transitions(self)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._export = SideService(self, ExportMesh, "~/export_mesh", self._on_export)

    def start(self) -> bool:
        """Configure and activate, if the parameter ``autostart`` says so; False if that failed."""
        *_, config = self._settings.configs()
        if config.autostart:
            self._started = (
                self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS
            )
        return self._started

    def run(self, stop: threading.Event) -> int:
        """Wait until `stop`; callbacks do everything. 1 if it could not start."""
        if not self._started:
            return 1
        stop.wait()
        return 0

    def close(self) -> None:
        """End the stream, release the networks and destroy the node."""
        self._export.close()
        self._end_stream()
        self._release()
        self.destroy_node()

    def create_lifecycle_publisher(
        self, message_type: type, topic: str, profile: QoSProfile, **options: Any
    ) -> LifecyclePublisher:
        """Make a publisher that takes overrides and reports subscribers that it cannot serve.

        Raises
        ------
        ConfigError
            An override is none.
        """
        profile = own_copy(profile)
        with wrong_overrides(f"publisher of {topic}"):
            return super().create_lifecycle_publisher(
                message_type,
                topic,
                profile,
                qos_overriding_options=OVERRIDABLE,
                event_callbacks=self._mismatches.watch(self.resolve_topic_name(topic), profile),
                **options,
            )

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks and create the publishers."""
        configs = tuple(self._settings.configs())
        pipeline_config, metric_config, config = configs
        try:
            models = model_set.load(model_set.find(pipeline_config.model_set))
            self._pipeline = FacePipeline(models, pipeline_config, ids_given=self._ids_given)
            self._outputs = FaceOutputs(self, self._pipeline, configs)
            self._cameras = CameraInfoInput(self)
            self._worker = FaceWorker(
                self._cameras,
                self._pipeline,
                self._outputs,
                compressed=config.image_transport == "compressed",
                rectified=metric_config.image_rectified,
                logger=self.get_logger(),
            )
            self._images = ImageInput(self, config, self._worker.take)
        except (TddfaError, ParameterException) as error:
            self.get_logger().error(f"cannot configure: {error}")
            self._release()
            return _FAILURE
        load_assignment()
        self._exporter = MeshExporter(
            self._pipeline.model,
            config.export_dir,
            config.texture_size,
            metric_config.head_width_m,
        )
        self.get_logger().info(f"model set {models.name} from {models.path} ({models.licence})")
        return super().on_configure(state)

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe the images and begin to process them."""
        *_, config = self._settings.configs()
        super().on_activate(state)
        try:
            self._worker.start()
            self._cameras.start()
            self._images.start()
            if not self._enabled:
                self._images.stop()
            self._diagnostics = FaceDiagnostics(
                self,
                self._images,
                self._worker,
                self._mismatches,
                period_s=config.diagnostics_period_s,
            )
        except ConfigError as error:
            self.get_logger().error(f"cannot activate: {error}")
            self._end_stream()
            super().on_deactivate(state)
            return _FAILURE
        if self._enabled:
            self.get_logger().info(f"waiting for images on {self._images.topic}")
        else:
            self.get_logger().info("active, but disabled by ~/enable: images are not subscribed")
        return _SUCCESS

    @_logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the subscription, finish the present image and forget the faces."""
        self._end_stream()
        return super().on_deactivate(state)

    @_logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release networks and publishers."""
        self._release()
        return super().on_cleanup(state)

    @_logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from whichever state."""
        self._end_stream()
        self._release()
        return super().on_shutdown(state)

    @_logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured anew."""
        self._end_stream()
        self._release()
        return _SUCCESS

    def _end_stream(self) -> None:
        if self._diagnostics is not None:
            self._diagnostics.close()
            self._diagnostics = None
        if self._images is not None:
            self._images.stop()
        if self._worker is not None:
            self._worker.stop()
            self._worker.reset()
        if self._cameras is not None:
            self._cameras.stop()

    def _release(self) -> None:
        if self._images is not None:
            self._images.close()
        if self._outputs is not None:
            self._outputs.close()
        else:
            # Where one of them could not be made, those before it are nobody's.
            for publisher in list(self.publishers):
                if isinstance(publisher, LifecyclePublisher):
                    self.destroy_lifecycle_publisher(publisher)
        if self._pipeline is not None:
            self._ids_given = self._pipeline.ids_given
            self._pipeline.close()
        self._pipeline = self._outputs = self._images = self._cameras = self._worker = None
        self._exporter = None
        # Networks are hundreds of megabytes, in objects that refer to each other.
        gc.collect()

    def _apply(self, configs: Sequence[Any]) -> None:
        if self._worker is not None:
            self._worker.configure(tuple(configs))
            _, metric_config, config = configs
            self._exporter.configure(
                config.export_dir, config.texture_size, metric_config.head_width_m
            )

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None:
            response.message = "nothing to reset: the node is not configured"
            return response
        self._worker.reset()
        response.success = True
        response.message = "all faces and filters forgotten"
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        is_active = self._diagnostics is not None
        if is_active:
            if self._enabled:
                self._worker.resume()
                self._images.resume()
            else:
                self._images.stop()
                self._worker.pause()
        response.success = True
        told = "processing images" if self._enabled else "images are not subscribed"
        response.message = told if is_active else f"{told}, once the node is active"
        return response

    def _on_export(
        self, request: ExportMesh.Request, response: ExportMesh.Response
    ) -> ExportMesh.Response:
        # Taken once: another thread may clean the node up meanwhile.
        worker, exporter = self._worker, self._exporter
        if worker is None or exporter is None:
            response.message = "nothing to export: the node is not configured"
            return response
        return exporter.answer(worker.newest, request, response)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C; returns the exit code."""
    return run_node(_started_node, args, node_name="face_node")


def _started_node() -> FaceNode:
    node = FaceNode()
    node.start()
    return node


if __name__ == "__main__":
    sys.exit(main())
