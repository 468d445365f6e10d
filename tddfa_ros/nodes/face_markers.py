"""Which markers of faces to send when: numbers by id, a limited rate, and removal of lost faces."""

from __future__ import annotations

from dataclasses import replace

from tddfa_ros.core.coarse_mesh import CoarseMesh, coarse_mesh, full_mesh
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.metric_frame import MetricFrame
from tddfa_ros.core.one_euro import NS_PER_S
from tddfa_ros.core.track import LATEST_S
from tddfa_ros.nodes.marker_messages import (
    LIFETIME_S,
    MarkerShape,
    all_removed,
    axes_marker,
    label_marker,
    landmark_marker,
    mesh_marker,
    mesh_removed,
    removed,
)

MOST_TRIANGLES = 3000
# Stamps of a steady stream are rounded; without this, 10 Hz of 30 Hz would become 7.5 Hz.
_EARLY_SHARE = 0.01
# So many periods of messages do markers stay, so that they are there when the next one comes.
_LASTING_PERIODS = 3


class FaceMarkers:
    """Keeps what a viewer shows in step with the faces.

    Parameters
    ----------
    face_model : of the fits
    rate_hz : sent at most so often by the images' stamps
    mesh : ``decimated``, ``full`` or ``none``
    """

    def __init__(self, face_model: FaceModel, rate_hz: float, mesh: str) -> None:
        self.rate_hz = rate_hz
        self.mesh = mesh
        self._face_model = face_model
        self._meshes: dict[str, CoarseMesh] = {}
        self._numbers: dict[str, int] = {}
        self._numbers_given = 0
        self._sent_ns: int | None = None
        self._mesh_shown = False

    def due(self, stamp_ns: int) -> bool:
        """Whether the image of that time gets markers."""
        if self._sent_ns is None:
            return True
        since_s = (stamp_ns - self._sent_ns) / NS_PER_S
        # An image that another one overtook is not due; one of a replay that starts over is.
        return since_s >= (1 - _EARLY_SHARE) / self.rate_hz or since_s < -LATEST_S

    def shapes(self, frame: MetricFrame) -> list[MarkerShape]:
        """Return the markers of an image, those that remove lost faces first; may be empty."""
        self._sent_ns = frame.result.stamp_ns
        seen = {face.id: i for i, face in enumerate(frame.result.faces) if frame.placed[i]}
        gone = [face_id for face_id in self._numbers if face_id not in seen]
        shapes = [shape for face_id in gone for shape in removed(self._numbers.pop(face_id))]
        if self.mesh == "none" and self._mesh_shown:
            shapes += [mesh_removed(number) for number in self._numbers.values()]
        self._mesh_shown = self.mesh != "none"
        for face_id, index in seen.items():
            if face_id not in self._numbers:
                self._numbers[face_id] = self._numbers_given
                self._numbers_given += 1
            shapes += self._face(frame, index, self._numbers[face_id])
        return shapes

    def clear(self) -> list[MarkerShape]:
        """Return what removes all markers, and forget the faces."""
        shapes = all_removed() if self._numbers else []
        self._numbers.clear()
        self._sent_ns = None
        return shapes

    def _face(self, frame: MetricFrame, index: int, number: int) -> list[MarkerShape]:
        pose, face_id = frame.placed[index], frame.result.faces[index].id
        shapes = [
            landmark_marker(number, frame.landmarks_m(index)),
            axes_marker(number, pose),
            label_marker(number, pose, face_id),
        ]
        if self.mesh != "none":
            shapes.append(mesh_marker(number, self._mesh(), frame.vertices_m(index)))
        lifetime_s = max(LIFETIME_S, _LASTING_PERIODS / self.rate_hz)
        return [replace(shape, lifetime_s=lifetime_s) for shape in shapes]

    def _mesh(self) -> CoarseMesh:
        if self.mesh not in self._meshes:
            self._meshes[self.mesh] = (
                full_mesh(self._face_model)
                if self.mesh == "full"
                else coarse_mesh(self._face_model, MOST_TRIANGLES)
            )
        return self._meshes[self.mesh]
