"""Skins, people, crops and scenes: seeded, in range, and true to what they claim."""

import numpy as np
import pytest

from tddfa_ros.training import backdrop, crops, decoys, lighting, scenes, sight, skin
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.degrade import degrade
from tddfa_ros.training.noise import fractal
from tddfa_ros.training.occlude import occlude
from tddfa_ros.training.sight import CANVAS


@pytest.fixture(scope="module")
def source(rig):
    return crops.CropSource(rig, 16, seed=3, pool=80, reuse=1.0)


@pytest.fixture(scope="module")
def batch(source):
    return source.batch(48, not_faces=0.1)


def similarity_residual(face, seen, rotation):
    """Mean distance of `seen` from the best scale and shift of the turned `face`, and its size."""
    turned = (face @ rotation.T)[:, :2] * [1, -1]
    turned = turned - turned.mean(axis=0)
    flat = seen[:, :2] - seen[:, :2].mean(axis=0)
    scale = (turned * flat).sum() / (turned**2).sum()
    return np.linalg.norm(flat - scale * turned, axis=1).mean() / np.ptp(flat, axis=0).max()


def test_truth_of_crops_is_consistent_with_the_rig(batch, rig, source):
    """Turned by the true rotation, the true face lies on the true points, but for perspective."""
    errors = []
    for k in np.flatnonzero(batch.is_face):
        shape = np.zeros(len(rig.shape_basis), np.float32)
        shape[:40] = batch.shape[k]
        expression = np.zeros(len(rig.expression_basis), np.float32)
        expression[:16] = batch.expression[k]
        face = rig.landmarks.of(rig.pose(shape, expression))
        errors.append(similarity_residual(face, batch.points[k, :68], batch.rotation[k]))
    assert np.median(errors) < 0.012
    assert max(errors) < 0.07


def test_rotations_are_rotations(batch):
    product = batch.rotation @ batch.rotation.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.tile(np.eye(3), (48, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(batch.rotation), 1, atol=1e-5)


def test_crops_hold_the_face(batch):
    faces = batch.is_face == 1
    points = batch.points[faces, :68, :2]
    inside = ((points > 0) & (points < crops.CROP)).all(axis=2)
    assert inside.mean() > 0.95
    assert batch.crops.dtype == np.uint8
    assert batch.crops.shape == (48, crops.CROP, crops.CROP, 3)
    assert 0 < (~faces).sum() < 20
    assert batch.crops[faces].std(axis=(1, 2, 3)).min() > 1


def test_crops_are_seeded(rig):
    first, second = (crops.CropSource(rig, 16, seed=9, pool=70).batch(6) for _ in range(2))
    np.testing.assert_array_equal(first.crops, second.crops)
    np.testing.assert_array_equal(first.points, second.points)
    other = crops.CropSource(rig, 16, seed=10, pool=70).batch(6)
    assert not np.array_equal(first.crops, other.crops)


def test_plain_crops_are_as_rendered(rig, monkeypatch):
    for name in ("occlude", "degrade", "_leave_image"):
        monkeypatch.setattr(crops, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
    source = crops.CropSource(rig, 16, seed=9, pool=70, plain=1.0)
    assert not source.batch(64, not_faces=0.0).occluded.any()


def test_as_many_crops_are_plain_as_asked(rig, monkeypatch):
    degraded = []
    monkeypatch.setattr(crops, "degrade", lambda rng, picture: degraded.append(0) or picture)
    source = crops.CropSource(rig, 16, seed=9, pool=70, plain=0.25)
    source.batch(200, not_faces=0.0)
    assert 0.65 < len(degraded) / 200 < 0.85


def test_skins_of_all_tones_are_painted_where_the_face_is(rig, rng):
    painter = skin.SkinPainter(rig)
    skins = [painter.paint(rng) for _ in range(12)]
    assert np.ptp([s.tone for s in skins]) > 0.4
    light = [s.skin_bgr.mean() for s in skins]
    assert np.corrcoef(light, [s.tone for s in skins])[0, 1] > 0.95
    lips = np.round(skin.cylinder_uv(rig.landmarks.of(rig.mean)[[57]] * 1000) * 383).astype(int)[0]
    assert 0.6 * skin.SKIN_SIDE < lips[1] < 0.75 * skin.SKIN_SIDE
    assert abs(lips[0] - skin.SKIN_SIDE / 2) < 3


def test_the_key_light_falls_where_it_comes_from(rig, rng):
    """Lit from the subject's left (right in the picture), that side is the brighter."""
    studio = sight.Studio(rig, sight.spread_points(rig, 20))
    painted = skin.SkinPainter(rig).paint(rng)
    person = studio.draw(rng, painted)
    reflect = 255 * np.ones_like(person.albedo) * (person.surface[:, :1] / 255)
    for side in (-1, 1):
        key = np.array([side, 0.1, 0.2], np.float32) / np.linalg.norm([1, 0.1, 0.2])
        lit = sight.Layers(
            person.pixel,
            reflect.astype(np.uint8),
            person.normal,
            person.surface,
            key,
            person.skin_tone,
            person.truth,
        )
        right = person.normal[:, 0] > 0.72 * 255 * person.surface[:, 0] / 255
        left = person.normal[:, 0] < 0.28 * 255 * person.surface[:, 0] / 255
        means = []
        for seed in range(6):
            picture = lighting.light(np.random.default_rng(seed), lit).reshape(-1, 4)
            shown = picture[person.pixel, :3].mean(axis=1)
            means.append(shown[right].mean() - shown[left].mean())
        assert np.sign(np.mean(means)) == side


def test_openness_is_least_inside_and_full_outside(rig):
    topology = sight.MeshTopology(rig.triangles, len(rig.mean))
    seen = sight.openness((rig.mean * 1000).astype(np.float32), topology, directions=40)
    assert seen.min() > 0.0199
    assert seen.max() <= 1
    nose = rig.landmark_corners[30][rig.landmark_weights[30].argmax()]
    assert seen[nose] > 0.85
    mouth = np.unique(rig.quads[rig.material == 3])
    assert np.median(seen[mouth]) < 0.3


def test_spread_points_keep_their_distance(rig):
    chosen = sight.spread_points(rig, 60)
    at = rig.mean[chosen]
    distance = np.linalg.norm(at[:, None] - at[None], axis=2) + np.eye(60)
    assert distance.min() > 0.006
    assert len(set(chosen)) == 60
    assert set(rig.mirror[chosen]) == set(chosen)


def test_angles_compose_as_said():
    quarter = np.pi / 2
    np.testing.assert_allclose(
        sight.rotation_from_angles(quarter, 0, 0) @ [0, 0, 1], [1, 0, 0], atol=1e-12
    )
    np.testing.assert_allclose(
        sight.rotation_from_angles(0, quarter, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-12
    )
    np.testing.assert_allclose(
        sight.rotation_from_angles(0, 0, quarter) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


def test_scenes_have_boxes_around_faces_and_are_seeded(rig):
    first, second = (scenes.SceneSource(rig, seed=4) for _ in range(2))
    sizes, counts = [], []
    for _ in range(30):
        picture, boxes = first.scene()
        again, same = second.scene()
        np.testing.assert_array_equal(picture, again)
        np.testing.assert_array_equal(boxes, same)
        assert picture.shape == (scenes.HEIGHT // 2, scenes.WIDTH // 2, 3)
        counts.append(len(boxes))
        sizes += list((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
    assert min(counts) == 0
    assert max(counts) >= 2
    # Larger sides of 10 to 230 pixels; a turn in the picture changes them by up to sqrt(2).
    assert min(sizes) >= 10 / np.sqrt(2)
    assert max(sizes) <= 230 * np.sqrt(2)


def test_portraits_have_another_ground_around_the_face_and_nothing_else_changes(rig, rng):
    source = scenes.SceneSource(rig, seed=5)
    height, width = scenes.HEIGHT // 2, scenes.WIDTH // 2
    whole = np.array([0, 0, width, height])
    for _ in range(40):
        size = rng.uniform(10, 120)
        place = rng.uniform(0, (width, height))
        picture = np.full((height, width, 3), -1, np.float32)
        frame = np.array(source._frame(picture, place, size))
        inside = np.zeros((height, width), bool)
        inside[frame[1] : frame[3], frame[0] : frame[2]] = True
        np.testing.assert_array_equal((picture >= 0).all(axis=2), inside)
        square = np.concatenate([place - size / 2, place + size / 2])
        least = np.clip(square, 0, np.tile(whole[2:], 2))
        most = np.clip(square + size * np.array([-1, -1, 1, 1]), 0, np.tile(whole[2:], 2))
        assert (frame[:2] <= least[:2]).all() and (frame[2:] >= np.floor(least[2:])).all()
        assert (frame[:2] >= np.floor(most[:2])).all() and (frame[2:] <= most[2:]).all()


def test_decoys_are_drawn_and_collages_touch_no_face(rng):
    boxes = [np.array([40.0, 30, 90, 95]), np.array([-20.0, 150, 60, 250])]
    inside = np.zeros((240, 320), bool)
    inside[30:95, 40:90] = inside[150:, :60] = True
    drawn = []
    for _ in range(60):
        picture = np.full((240, 320, 3), 128, np.float32)
        decoys.collage(rng, picture, boxes)
        changed = np.abs(picture - 128).max(axis=2) > 1
        assert not (changed & inside).any()
        assert np.isfinite(picture).all()
        drawn.append(changed.mean())
        decoys.post(rng, picture, boxes)
        assert not ((np.abs(picture - 128).max(axis=2) > 1) & inside).any()
        decoys.decoy(rng, picture, [])
        assert (np.abs(picture - 128).max(axis=2) > 1).mean() > drawn[-1] * 0.5
    assert np.mean(np.array(drawn) > 0) > 0.7
    assert max(drawn) > 0.05


def test_no_place_for_a_collage_leaves_the_picture_alone(rng):
    picture = np.full((60, 80, 3), 128, np.float32)
    decoys.collage(rng, picture, [np.array([-10.0, -10, 90, 70])])
    assert (picture == 128).all()


@pytest.mark.parametrize("size", [(40, 60), (120, 120)])
def test_backgrounds_and_degradation_keep_size_and_type(size, rng):
    for _ in range(25):
        picture = backdrop.draw(rng, *size)
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8
        worse = degrade(rng, picture.astype(np.float32))
        assert worse.shape == picture.shape
        assert worse.dtype == np.uint8


def test_bodies_go_on_below_what_was_rendered(rig, monkeypatch):
    source = crops.CropSource(rig, 16, seed=5, pool=4)
    monkeypatch.setattr(source, "_ground", lambda: np.full((CROP, CROP, 3), 900, np.float32))
    for layers in source._pool:
        picture, matrix = source._place(layers, 0.5, np.array([0, -20]), 0.0)
        rendered = picture[: int(matrix[1, 1] * CANVAS + matrix[1, 2]) - 1]
        body = (rendered[-1] < 300).all(axis=1)
        assert body.any()
        assert len(picture) > len(rendered) + 20
        assert (picture[len(rendered) :, body] < 300).all()


def centre_of(picture):
    """Of what is brighter than half of the brightest."""
    grey = picture.astype(np.float64).mean(axis=2)
    weight = np.maximum(grey - (grey.max() + np.median(grey)) / 2, 0)
    y, x = np.indices(grey.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_what_degradation_leaves_stays_where_it_was():
    y, x = np.indices((97, 121))
    bright = 200 * np.exp(-((x - 95) ** 2 + (y - 70) ** 2) / (2 * 6.0**2))
    picture = np.repeat(bright[..., None], 3, axis=2).astype(np.float32) + 20
    for seed in range(150):
        worse = degrade(np.random.default_rng(seed), picture)
        assert np.abs(centre_of(worse) - [95, 70]).max() < 0.4, seed


def test_occluders_cover_a_part(rng):
    ground = [np.full((120, 120, 3), 10, np.uint8)]
    changed = []
    for _ in range(30):
        blank = np.full((120, 120, 3), 128, np.float32)
        changed.append((np.abs(occlude(rng, blank, ground) - 128).max(axis=2) > 2).mean())
    assert min(changed) >= 0
    assert 0.03 < np.mean(changed) < 0.5


def test_noise_is_standardised(rng):
    field = fractal(rng, 200, 200, (4, 16, 64), channels=3)
    assert field.shape == (200, 200, 3)
    assert abs(field.mean()) < 0.4
    assert 0.4 < field.std() < 1.3
