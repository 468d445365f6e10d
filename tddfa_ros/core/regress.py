"""From regions of an image to the parameters of the faces in them, all in one batch."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np

from tddfa_ros.core.image import require_bgr_image
from tddfa_ros.core.mirror import ParameterMirror
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.onnx_session import OnnxSession, TensorSpec
from tddfa_ros.core.patch import crop_into
from tddfa_ros.core.types import Fits, MorphableParams

# Bounds the memory of a run; a crowd beyond it goes through in several.
MAX_BATCH = 32
# From so many faces on, waking further threads costs less than they save.
THREADED_BATCH = 3
_CAMERA_COUNT = 12


class Regressor:
    """The parameter regressor of a model set.

    Parameters
    ----------
    model_set : names the network and says how to use it
    threads : that compute a batch of :data:`THREADED_BATCH` faces or more; 0 lets the runtime
        choose. Fewer faces are computed on one: at the pace of a camera, waking a second thread for
        each image costs more than it saves

    Raises
    ------
    ModelSetError
        The network cannot be loaded or does not fit its description.

    Notes
    -----
    Not to be used by two threads at once: the crops share one buffer.
    """

    def __init__(self, model_set: ModelSet, *, threads: int) -> None:
        self._spec = spec = model_set.regressor
        self._face_model = model_set.face_model
        count = _CAMERA_COUNT + spec.shape_count + spec.expression_count
        outputs = {"params": TensorSpec("float32", (None, count))}
        if spec.has_confidence:
            outputs["confidence"] = TensorSpec("float32", (None,))
        size = spec.input_size
        inputs = {"crops": TensorSpec("uint8", (None, size, size, 3))}
        open_session = partial(
            OnnxSession, model_set.regressor_path, inputs=inputs, outputs=outputs
        )
        self._few = open_session(threads=1)
        self._many = self._few if threads == 1 else open_session(threads=threads)
        self._crops = np.empty((MAX_BATCH, size, size, 3), np.uint8)

    @cached_property
    def _mirror(self) -> ParameterMirror | None:
        return ParameterMirror.of(self._face_model)

    def seek_mirror(self) -> None:
        """Find the face model's mirror image now; the first fit that needs it would take 60 ms."""
        _ = self._mirror

    def regress(
        self, image_bgr: np.ndarray, rois_xyxy: np.ndarray, *, mirrored: bool = False
    ) -> Fits:
        """Fit the face in each region.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8
        rois_xyxy : (n, 4), pixels
        mirrored : also fit each region as a mirror shows it, and give the mean of both; nothing
            changes if the face model is not symmetric

        Returns
        -------
        params : n fits; None where a region shows nothing of the image or the fit is not finite
        confidences : (n,) float32, in [0, 1]; NaN without a fit or if the set has none

        Raises
        ------
        ImageError
            The image is not BGR uint8, or empty.
        ModelSetError
            The network fails.
        """
        image = require_bgr_image(image_bgr)
        rois = np.asarray(rois_xyxy).reshape(-1, 4)
        fits: list[MorphableParams | None] = [None] * len(rois)
        confidences = np.full(len(rois), np.nan, np.float32)
        mirror = self._mirror if mirrored else None
        most = MAX_BATCH if mirror is None else MAX_BATCH // 2
        for start in range(0, len(rois), most):
            batch: list[int] = []
            for index in range(start, min(start + most, len(rois))):
                if crop_into(image, rois[index], self._crops[len(batch)]):
                    batch.append(index)
            if batch:
                self._fit(rois, batch, mirror, fits, confidences)
        return tuple(fits), confidences

    def _fit(
        self,
        rois: np.ndarray,
        batch: list[int],
        mirror: ParameterMirror | None,
        fits: list[MorphableParams | None],
        confidences: np.ndarray,
    ) -> None:
        spec = self._spec
        # Pixels of the image, across and down, in one of the crop.
        ratios = (rois[batch, 2:] - rois[batch, :2]) / spec.input_size
        if mirror is None:
            vectors, *rest = self._run(len(batch), ratios)
        else:
            count = len(batch)
            self._crops[count : 2 * count] = self._crops[:count, :, ::-1]
            both, *rest = self._run(count, np.concatenate([ratios, ratios]))
            undone = mirror.undo(both[count:], spec.input_size, ratios[:, 0])
            vectors = (both[:count] + undone) / 2
            rest = [(values[:count] + values[count:]) / 2 for values in rest]
        finite = np.isfinite(vectors).all(axis=1)
        for row, index in enumerate(batch):
            if finite[row]:
                fits[index] = MorphableParams.from_vector(
                    vectors[row], spec.shape_count, rois[index].copy(), spec.input_size
                )
                if rest:
                    confidences[index] = rest[0][row]

    def _run(self, faces: int, ratios: np.ndarray) -> tuple[np.ndarray, ...]:
        """What the network says of the first crops, one a row of `ratios`."""
        session = self._few if faces < THREADED_BATCH else self._many
        crops = len(ratios)
        vectors, *rest = session.run({"crops": self._crops[:crops]}, rows=crops)
        if self._spec.camera_from_edges:
            # A camera of 3DDFA_V2 measures from the middle of the image's first pixel: it is half
            # one of the image from the edge, so much less in pixels of the crop. y points up.
            vectors[:, [3, 7]] += np.array([-0.5, 0.5], np.float32) / ratios
        return vectors, *rest
