"""Measures a model set: on photos with truth, a video, faceless pictures, synthetic people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.crop import roi_from_box, roi_from_landmarks
from tddfa_ros.core.detect import Detector
from tddfa_ros.core.errors import MediaError, UnsafeFileError
from tddfa_ros.core.expression import eye_mouth_openness
from tddfa_ros.core.media import open_media
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.regress import Regressor
from tddfa_ros.core.release.mat_file import read_mat
from tddfa_ros.core.rotation import nearest_rotation
from tddfa_ros.core.still import fit_still
from tddfa_ros.core.types import MorphableParams
from tddfa_ros.training.crops import CROP, Batch, CropSource
from tddfa_ros.training.expressions import REGRESSED
from tddfa_ros.training.recipe import EVALUATION_SEED
from tddfa_ros.training.rig import Rig
from tddfa_ros.training.together import TrainingError

BOXES = "boxes_xyxy"
"""Of a video, in an .npz."""
_MOST_BYTES = 64 * 1024 * 1024
OPENINGS = ("left_eye", "right_eye", "mouth")
"""Order of :func:`tddfa_ros.core.expression.eye_mouth_openness`."""


def nme(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of points (n, 2) in percent of sqrt(w h) of the truth's bounds."""
    width, height = np.ptp(truth[:, :2], axis=0)
    distance = np.linalg.norm(predicted[:, :2] - truth[:, :2], axis=1)
    return float(100 * distance.mean() / np.sqrt(width * height))


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = float(np.maximum(high - low, 0).prod())
    areas = float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod())
    return common / (areas - common) if common else 0.0


def bounds(points: np.ndarray) -> np.ndarray:
    """(4,) xyxy of points (n, 2 or 3)."""
    return np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])


class Fitter:
    """The stages of a model set, one after the other, without tracking.

    Parameters
    ----------
    still : fit as the pipeline fits stills: several regions
    mirrored : fit each region in its mirror image, too, as the pipeline does unless told otherwise
    """

    def __init__(self, model_set: ModelSet, *, still: bool = False, mirrored: bool = True) -> None:
        self._spec = model_set.regressor
        self._still, self._mirrored = still, mirrored
        self.detector = Detector(model_set, threads=1)
        self._regressor = Regressor(model_set, threads=1)
        self.model = MorphableModel(model_set.face_model)

    def fit(self, image: np.ndarray, roi: np.ndarray) -> tuple[MorphableParams, np.ndarray]:
        """Parameters, and landmarks (68, 3) in the image, from one region."""
        regress = partial(self._regressor.regress, image, mirrored=self._mirrored)
        if self._still:
            (params,), _ = fit_still(regress, roi[None], self._spec)
        else:
            (params,), _ = regress(roi[None])
        return params, self.model.landmarks(params)

    def from_box(
        self, image: np.ndarray, box: np.ndarray, passes: int
    ) -> tuple[MorphableParams, np.ndarray]:
        """Fit from a detected box, then `passes` times from the landmarks."""
        spec = self._spec
        roi = roi_from_box(
            box,
            scale=spec.roi_box_scale,
            shift_down=spec.roi_box_shift_down,
            whole_pixels=spec.roi_whole_pixels,
        )
        params, landmarks = self.fit(image, roi)
        for _ in range(passes):
            params, landmarks = self.from_landmarks(image, landmarks)
        return params, landmarks

    def from_landmarks(
        self, image: np.ndarray, landmarks: np.ndarray
    ) -> tuple[MorphableParams, np.ndarray]:
        """Fit from the region that landmarks span."""
        spec = self._spec
        roi = roi_from_landmarks(
            landmarks, scale=spec.roi_landmark_scale, whole_pixels=spec.roi_whole_pixels
        )
        return self.fit(image, roi)


def annotated(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Photos of a folder and their true landmarks (68, 2), as AFLW2000-3D packs them.

    Raises
    ------
    MediaError
        There are none, or one of a pair is missing or not readable.
    """
    items = []
    for path in sorted(folder.glob("*.mat")):
        image = cv2.imread(str(path.with_suffix(".jpg")))
        if image is None:
            raise MediaError(f"{path.with_suffix('.jpg')}: no such photo, or not readable")
        try:
            points = read_mat(path.read_bytes(), str(path)).get("pt3d_68", np.empty(0))
        except (OSError, UnsafeFileError) as error:
            raise MediaError(f"cannot read the landmarks of a photo: {error}") from error
        if points.shape not in ((2, 68), (3, 68)) or not np.isfinite(points).all():
            raise MediaError(f"{path}: without 68 landmarks in columns (pt3d_68)")
        items.append((image, points[:2].T.astype(np.float64)))
    if not items:
        raise MediaError(f"{folder}: no such folder, or no landmarks (.mat) beside photos in it")
    return items


def photos(fitter: Fitter, items: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Landmark errors on photos.

    Parameters
    ----------
    items : pairs of image and true landmarks (68, 2)

    Returns
    -------
    dict with lists in percent: `true_roi` (region of the truth), `box` (own detector's box, one
    pass), `one_pass`, `two_passes` (then from the landmarks); NaN where the face was not found
    """
    result: dict[str, Any] = {k: [] for k in ("true_roi", "box", "one_pass", "two_passes")}
    for image, truth in items:
        flat = np.column_stack([truth, np.zeros(len(truth))]).astype(np.float32)
        result["true_roi"].append(nme(fitter.from_landmarks(image, flat)[1], truth))
        found = fitter.detector.detect(image).boxes_xyxy
        best = max(found, key=lambda box: box_iou(box, bounds(truth)), default=None)
        for passes, name in enumerate(("box", "one_pass", "two_passes")):
            hit = best is not None and box_iou(best, bounds(truth)) > 0.2
            error = nme(fitter.from_box(image, best, passes)[1], truth) if hit else float("nan")
            result[name].append(error)
    return result


def read_frames(path: Path) -> list[np.ndarray]:
    """All images of a video or a folder, BGR.

    Raises
    ------
    MediaError, ImageError
        There are none, or not readable.
    """
    with open_media(path) as media:
        return [frame.image_bgr for frame in media]


def filmed(path: Path, boxes: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of a video, and where its one face is in each (frames, 4), told by an .npz.

    Raises
    ------
    MediaError
        One of them is not readable, or they do not belong together.
    """
    frames = read_frames(path)
    try:
        known = read_npz(read_bounded(boxes, _MOST_BYTES), str(boxes), _MOST_BYTES).get(BOXES)
    except (OSError, UnsafeFileError) as error:
        raise MediaError(f"cannot read the boxes of a video: {error}") from error
    if (
        known is None
        or known.shape != (len(frames), 4)
        or not (np.isfinite(known).all() and (known[:, 2:] > known[:, :2]).all())
    ):
        raise MediaError(f"{boxes}: without a box in each of {len(frames)} rows ({BOXES})")
    if len(frames) < 3:
        raise MediaError(f"{path}: {len(frames)} frames; how steady fits are is told by 3 at least")
    return frames, known


def false_faces(fitter: Fitter, pictures: Iterable[np.ndarray]) -> list[int]:
    """Faces found in each of several pictures that show none."""
    return [len(fitter.detector.detect(picture)) for picture in pictures]


def video(fitter: Fitter, frames: Iterable[np.ndarray], boxes: np.ndarray) -> dict[str, float]:
    """Detection in every frame against known boxes, and the raw jitter of tracked landmarks.

    Parameters
    ----------
    boxes : (frames, 4), where the one face is

    Returns
    -------
    dict: `found`, share of frames with a box of IoU >= 0.5; `jitter`, second difference of the
    landmarks in percent of the box, frame by frame from the landmarks before
    """
    found, track = [], []
    landmarks = None
    for image, box in zip(frames, boxes, strict=True):
        detections = fitter.detector.detect(image).boxes_xyxy
        best = max((box_iou(d, box) for d in detections), default=0.0)
        found.append(best >= 0.5)
        if landmarks is None:
            landmarks = fitter.from_box(image, box, 1)[1]
        else:
            landmarks = fitter.from_landmarks(image, landmarks)[1]
        track.append(landmarks)
    return {"found": float(np.mean(found)), "jitter": jitter(np.stack(track))}


def jitter(track: np.ndarray) -> float:
    """Mean second difference of (frames, 68, 2 or 3) landmarks, in percent of the box."""
    flat = track[..., :2].astype(np.float64)
    second = flat[2:] - 2 * flat[1:-1] + flat[:-2]
    size = np.sqrt(np.ptp(flat, axis=1).prod(axis=1))[1:-1]
    return float(100 * (np.linalg.norm(second, axis=2).mean(axis=1) / size).mean())


def new_people(rig: Rig, count: int, *, plain: bool = False) -> Batch:
    """Crops of synthetic people that no training has seen; about two of three are of another one.

    The plain ones are of the same people as the others.

    Parameters
    ----------
    plain : pictures as they are rendered instead of hidden and degraded as those of the training

    Raises
    ------
    TrainingError
        Fewer than two: nothing correlates.
    """
    if count < 2:
        raise TrainingError(f"{count} synthetic people: correlations are told by 2 at least")
    source = CropSource(
        rig, len(REGRESSED), seed=EVALUATION_SEED, pool=count, reuse=1.0, plain=float(plain)
    )
    return source.batch(count, not_faces=0.0)


def synthetic(fitter: Fitter, batch: Batch) -> dict[str, Any]:
    """Errors on synthetic people with known truth, in all and by group.

    Returns
    -------
    dict: `nme`, percent; `pose_deg`, mean geodesic; `correlation` of expression components by
    name; `openness`, that of what messages say of eyes and mouth (:mod:`core.expression`);
    `clear`, the same of the crops that nothing was laid over, within 30 degrees of yaw;
    `groups`, name -> NME of the crops by yaw, skin tone and occlusion. NaN is what so few crops
    do not tell
    """
    roi = np.array([0, 0, CROP, CROP], np.float32)
    errors, turns, found, seen_open, are_open = [], [], [], [], []
    for crop, points, rotation in zip(batch.crops, batch.points, batch.rotation, strict=True):
        params, landmarks = fitter.fit(crop, roi)
        errors.append(nme(landmarks, points[:68]))
        turns.append(angle_between_deg(nearest_rotation(params.camera[:, :3]), rotation))
        found.append(params.expression)
        seen_open.append(eye_mouth_openness(landmarks))
        are_open.append(eye_mouth_openness(points[:68]))
    error, turn = np.array(errors), np.array(turns)

    def figures(rows: np.ndarray) -> dict[str, Any]:
        return {
            "nme": _mean(error[rows]),
            "pose_deg": _mean(turn[rows]),
            "correlation": _correlations(REGRESSED, found, batch.expression, rows),
            "openness": _correlations(OPENINGS, seen_open, are_open, rows),
        }

    yaw = np.abs(np.rad2deg(np.arctan2(batch.rotation[:, 0, 2], batch.rotation[:, 2, 2])))
    groups = {  # of plain pictures none is occluded
        "yaw 0-30": yaw < 30,
        "yaw 30-60": (yaw >= 30) & (yaw < 60),
        "yaw 60-90": yaw >= 60,
        "dark skin": batch.tone < 1 / 3,
        "medium skin": (batch.tone >= 1 / 3) & (batch.tone < 2 / 3),
        "light skin": batch.tone >= 2 / 3,
        "occluded": batch.occluded,
        "free": ~batch.occluded,
    }
    return {
        **figures(np.ones(len(error), bool)),
        "clear": figures(groups["free"] & groups["yaw 0-30"]),
        "groups": {name: float(error[r].mean()) for name, r in groups.items() if r.any()},
    }


def _correlations(
    names: Sequence[str], found: ArrayLike, true: ArrayLike, rows: np.ndarray
) -> dict[str, float]:
    """Of each column of two arrays (n, names), over some rows."""
    pairs = zip(names, np.array(found)[rows].T, np.array(true)[rows].T, strict=True)
    return {
        name: float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() * b.std() else float("nan")
        for name, a, b in pairs
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def angle_between_deg(first: np.ndarray, second: np.ndarray) -> float:
    """Angle of the turn from one rotation (3, 3) to another."""
    cosine = (np.trace(first.T @ second) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
