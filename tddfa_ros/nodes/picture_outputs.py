"""Pictures of the faces that the face node publishes: a new one is a row of :data:`PICTURES`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from tddfa_ros.core.outputs import LEAST_FACING, Scene
from tddfa_ros.core.render import RenderedFrame
from tddfa_ros.core.texture import TextureAverage
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

TEXTURE_TOPIC = "faces/texture"
TEXTURES_KEPT = 3


@dataclass(frozen=True)
class Picture:
    """A picture of the size of the image, with all its faces.

    Attributes
    ----------
    topic : where it is published
    encoding : of the message, see sensor_msgs/image_encodings
    channels : as `encoding` says
    make : (height, width) or (height, width, channels) of a rendered frame
    """

    topic: str
    encoding: str
    channels: int
    make: Callable[[RenderedFrame], np.ndarray]


PICTURES = {
    "depth_view": Picture("faces/depth_view", "mono8", 1, RenderedFrame.depth_view),
    "pncc": Picture("faces/pncc", "bgr8", 3, RenderedFrame.pncc),
    "normals": Picture("faces/normals", "bgr8", 3, RenderedFrame.normals),
    "uv": Picture("faces/uv", "32FC2", 2, RenderedFrame.uv_coordinates),
}
"""Name -> picture. docs/outputs.md explains their colours and axes."""


class PictureOutputs:
    """Publishers of rendered pictures and of the texture; all share the scene's visibility pass.

    Parameters
    ----------
    node : publishers are made on it at once
    texture_size : texels a side
    qos : of all topics
    """

    def __init__(self, node: LifecycleNode, texture_size: int, qos: QoSProfile) -> None:
        self._node = node
        self._publishers = {
            name: node.create_lifecycle_publisher(Image, picture.topic, qos)
            for name, picture in PICTURES.items()
        }
        self._texture = node.create_lifecycle_publisher(Image, TEXTURE_TOPIC, qos)
        self._averages = TrackTextures(texture_size)

    def configure(self, texture_size: int) -> None:
        """Take over settings; another size begins new textures."""
        if texture_size != self._averages.size:
            self._averages = TrackTextures(texture_size)

    def reset(self) -> None:
        """Forget all textures."""
        self._averages = TrackTextures(self._averages.size)

    def wants_image(self) -> bool:
        """Whether :meth:`publish` would do anything."""
        publishers = (*self._publishers.values(), self._texture)
        return any(publisher.get_subscription_count() > 0 for publisher in publishers)

    def publish(self, scene: Scene, header: ImageHeader) -> None:
        """Make and publish what somebody subscribes to; without a face there is no texture."""
        for name, publisher in self._publishers.items():
            if publisher.get_subscription_count() > 0:
                picture = PICTURES[name]
                pixels = picture.make(scene.frame)
                publisher.publish(
                    encode_image(pixels, header, picture.encoding, channels=picture.channels)
                )
        if scene.faces and self._texture.get_subscription_count() > 0:
            texture = self._averages.add(scene, 0)
            self._texture.publish(encode_image(texture, header, "bgra8", channels=4))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._texture):
            self._node.destroy_lifecycle_publisher(publisher)


class TrackTextures:
    """Averaged textures of the faces that were shown last.

    Parameters
    ----------
    size : texels a side
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._by_id: OrderedDict[str, TextureAverage] = OrderedDict()

    def add(self, scene: Scene, face: int) -> np.ndarray:
        """Add what a scene shows of a face.

        Parameters
        ----------
        scene : of the image
        face : its place in ``scene.faces``

        Returns
        -------
        Texture of its track so far, (size, size, 4) uint8 BGRA, alpha 255 where it was ever seen.
        """
        face_id = scene.faces[face].id
        average = self._by_id.pop(face_id, None) or TextureAverage(self.size)
        self._by_id[face_id] = average
        while len(self._by_id) > TEXTURES_KEPT:
            self._by_id.popitem(last=False)
        average.add(*scene.frame.texture(face, self.size, least_facing=LEAST_FACING))
        return average.texture()
