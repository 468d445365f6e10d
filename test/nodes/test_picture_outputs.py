"""Pictures as topics: what they show, and that nothing is computed for nobody."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.outputs import LEAST_FACING, Scene
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.texture import TextureAverage
from tddfa_ros.core.texture_layout import TextureLayout
from tddfa_ros.core.types import FrameResult
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.face_outputs import FaceOutputs
from tddfa_ros.nodes.picture_outputs import PICTURES, TEXTURE_TOPIC, TEXTURES_KEPT
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image
from tddfa_ros.nodes.spinning import SpinningThread

HEADER = ImageHeader(12, 345, "camera_7")
DTYPES = {"mono8": (np.uint8, 1), "bgr8": (np.uint8, 3), "32FC2": (np.float32, 2)}
DTYPES["bgra8"] = (np.uint8, 4)


class CountingPipeline(FacePipeline):
    """Counts the faces whose vertices were computed."""

    def __init__(self, model_set, config) -> None:
        super().__init__(model_set, config)
        self.done = Counter()

    def vertices_of(self, faces):
        self.done["vertices"] += len(faces)
        return super().vertices_of(faces)


class CountingLayout(TextureLayout):
    """Counts textures."""

    def __init__(self, renderer: Renderer, done: Counter) -> None:
        super().__init__(renderer.face_model, renderer.topology)
        self.done = done

    def unwrapped(self, size_hw):
        self.done["textures"] += 1
        return super().unwrapped(size_hw)


class CountingRenderer(Renderer):
    """Counts visibility passes and textures."""

    def __init__(self, face_model, done: Counter) -> None:
        super().__init__(face_model)
        self.done = done
        self.texture_layout = CountingLayout(self, done)

    def _visibility(self, frame):
        self.done["passes"] += self._drawn is not frame
        return super()._visibility(frame)


@pytest.fixture(scope="module")
def photo(media):
    return cv2.imread(str(media / "trump_hillary.jpg"))


@pytest.fixture(scope="module")
def pipeline(model_set):
    pipeline = CountingPipeline(model_set, PipelineConfig())
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def result(pipeline, photo):
    result = pipeline.process(photo, stamp_ns=0)
    assert len(result.faces) == 2
    return result


class Stage:
    """Outputs of a face node, and a node that listens to them."""

    def __init__(self, pipeline) -> None:
        self.pipeline = pipeline
        self.done = pipeline.done
        self.node = LifecycleNode("shown")
        self.node.trigger_configure()
        self.outputs = FaceOutputs(self.node, pipeline, self.configs())
        self.outputs._renderer = CountingRenderer(pipeline.model.face_model, self.done)
        self.node.trigger_activate()
        self.listener = rclpy.create_node("listener")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.listener)
        self.done.clear()

    @staticmethod
    def configs(**settings):
        return PipelineConfig(), MetricConfig(), FaceNodeConfig(**{"texture_size": 256} | settings)

    def listen(self, topic):
        """Return the list that the topic's messages go to, and the subscription."""
        kept = []
        subscription = self.listener.create_subscription(Image, topic, kept.append, 10)
        self.await_true(lambda: self.node.count_subscribers(topic) > 0)
        self.await_true(self.outputs.wants_image)
        return kept, subscription

    def publish(self, result, image):
        self.outputs.publish(result, HEADER, None, 0.0, 0, image)

    def newest(self, kept, count=1):
        self.await_true(lambda: len(kept) >= count)
        return kept[-1]

    def await_true(self, condition, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline
            self.executor.spin_once(0.01)

    def close(self):
        self.executor.shutdown()
        self.listener.destroy_node()
        self.outputs.close()
        self.node.destroy_node()


@pytest.fixture
def stage(ros, pipeline, result):
    stage = Stage(pipeline)
    yield stage
    stage.close()


def pixels_of(message):
    dtype, channels = DTYPES[message.encoding]
    assert message.step == message.width * channels * np.dtype(dtype).itemsize
    shape = (message.height, message.width, channels)[: 2 if channels == 1 else 3]
    return np.frombuffer(bytes(message.data), dtype).reshape(shape)


def scene_of(pipeline, result, image):
    return Scene(image, result.faces, Renderer(pipeline.model.face_model), pipeline.model)


def without_faces(result):
    return FrameResult(1, 0, result.image_height, result.image_width, ())


def test_nothing_is_computed_without_a_subscriber(stage, result, photo):
    assert not stage.outputs.wants_image()
    stage.publish(result, photo)
    assert not stage.done


def test_visibility_of_landmarks_is_in_the_message_when_asked_for(stage, result, photo):
    kept = []
    stage.listener.create_subscription(FaceArray, "faces", kept.append, 10)
    stage.await_true(lambda: stage.node.count_subscribers("faces") > 0)
    stage.publish(result, photo)
    assert np.isnan(stage.newest(kept).faces[0].landmark_visibility).all()
    stage.outputs.configure(stage.configs(landmark_visibility=True))
    assert stage.outputs.wants_image()
    stage.publish(result, photo)
    for place, face in enumerate(stage.newest(kept, 2).faces):
        expected = scene_of(stage.pipeline, result, photo).frame.landmark_visibility(place)
        np.testing.assert_array_equal(face.landmark_visibility, expected)
        assert set(expected) <= {0.0, 1.0}
        assert expected[27:].mean() > 0.5


def test_the_node_without_subscribers_makes_no_renderer_and_keeps_no_picture(make_face_node, photo):
    node = make_face_node(frame_policy="every")
    node.start()
    spinner = SpinningThread(node, "spinner")
    spinner.start()
    sender = rclpy.create_node("sender")
    try:
        images = sender.create_publisher(Image, "image", 10)
        deadline = time.monotonic() + 20
        for stamp in range(10**6):
            if node._worker.processed >= 3 or time.monotonic() > deadline:
                break
            images.publish(encode_image(photo, ImageHeader(stamp, 0, "c")))
            time.sleep(0.1)
        assert node._worker.processed >= 3
        assert "_renderer" not in vars(node._outputs)
        assert all(pending.image_bgr is None for pending in node._worker._pending.values())
    finally:
        spinner.end()
        sender.destroy_node()


@pytest.mark.parametrize("name", list(PICTURES))
def test_each_picture_is_that_of_the_core(stage, pipeline, result, photo, name):
    picture = PICTURES[name]
    kept, _ = stage.listen(picture.topic)
    stage.publish(result, photo)
    message = stage.newest(kept)
    assert message.encoding == picture.encoding
    assert (message.height, message.width) == photo.shape[:2]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345)
    assert message.header.frame_id == "camera_7"
    expected = picture.make(scene_of(pipeline, result, photo).frame)
    assert np.array_equal(pixels_of(message), expected, equal_nan=expected.dtype == np.float32)
    assert np.nan_to_num(expected).any()
    # One pass, the vertices of two faces, and nothing for the other topics.
    assert stage.done == {"vertices": 2, "passes": 1}


def test_all_pictures_of_a_frame_share_vertices_and_pass(stage, pipeline, result, photo):
    stage.outputs.configure(stage.configs(overlay="mesh,dense,landmarks"))
    topics = ["faces/overlay", TEXTURE_TOPIC, *(p.topic for p in PICTURES.values())]
    kept = {topic: stage.listen(topic)[0] for topic in topics}
    stage.done.clear()
    stage.publish(result, photo)
    shown = {topic: pixels_of(stage.newest(messages)) for topic, messages in kept.items()}
    assert stage.done == {"vertices": 2, "passes": 1, "textures": 1}
    expected = scene_of(pipeline, result, photo).overlay(("mesh", "dense", "landmarks"))
    assert np.array_equal(shown["faces/overlay"], expected)
    assert not np.array_equal(expected, photo)


def test_after_the_last_subscriber_nothing_is_computed(stage, result, photo):
    kept, subscription = stage.listen("faces/normals")
    stage.publish(result, photo)
    stage.newest(kept)
    stage.listener.destroy_subscription(subscription)
    stage.await_true(lambda: not stage.outputs.wants_image())
    stage.done.clear()
    stage.publish(result, photo)
    assert not stage.done


def test_an_overlay_of_landmarks_needs_no_vertices(stage, result, photo):
    kept, _ = stage.listen("faces/overlay")
    stage.publish(result, photo)
    stage.newest(kept)
    assert not stage.done


def test_the_texture_averages_its_track(stage, pipeline, result, photo):
    kept, _ = stage.listen(TEXTURE_TOPIC)
    darker = photo // 2
    stage.publish(result, photo)
    stage.publish(result, darker)
    message = stage.newest(kept, 2)
    average = TextureAverage(256)
    for image in (photo, darker):
        average.add(
            *scene_of(pipeline, result, image).frame.texture(0, 256, least_facing=LEAST_FACING)
        )
    assert message.encoding == "bgra8"
    assert np.array_equal(pixels_of(message), average.texture())
    # Another size, or a reset, begins anew.
    for image, reset in ((photo, False), (darker, True)):
        stage.outputs.configure(stage.configs(texture_size=300))
        if reset:
            stage.outputs.reset()
        count = len(kept)
        stage.publish(result, image)
        fresh = TextureAverage(300)
        scene = scene_of(pipeline, result, image)
        fresh.add(*scene.frame.texture(0, 300, least_facing=LEAST_FACING))
        assert np.array_equal(pixels_of(stage.newest(kept, count + 1)), fresh.texture())


def test_textures_of_gone_faces_are_forgotten(stage, result, photo):
    kept, _ = stage.listen(TEXTURE_TOPIC)
    first = result.faces[0]
    shown = [*range(TEXTURES_KEPT), 0, TEXTURES_KEPT]  # the first one is shown again
    for count, number in enumerate(shown, 1):
        face = SimpleNamespace(**{**vars(first), "id": f"g{number}"})
        stage.publish(FrameResult(number, 0, *photo.shape[:2], (face,)), photo)
        stage.newest(kept, count)
    kept_ids = list(stage.outputs._pictures._averages._by_id)
    assert kept_ids == [f"g{number}" for number in shown[-TEXTURES_KEPT:]]


def test_pictures_without_a_face_are_blank_and_there_is_no_texture(stage, result, photo):
    topics = [TEXTURE_TOPIC, *(p.topic for p in PICTURES.values())]
    kept = {topic: stage.listen(topic)[0] for topic in topics}
    stage.publish(without_faces(result), photo)
    for picture in PICTURES.values():
        pixels = pixels_of(stage.newest(kept[picture.topic]))
        assert np.isnan(pixels).all() if picture.encoding == "32FC2" else not pixels.any()
    assert not kept[TEXTURE_TOPIC]
