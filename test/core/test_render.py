"""Pictures of faces: synthetic surfaces with known answers, then parity with 3DDFA_V2."""

import dataclasses

import cv2
import numpy as np
import pytest
from tddfa_native.rasterize import VisibilityBuffer, sample_bilinear

from tddfa_ros.core.errors import ImageError, TddfaError
from tddfa_ros.core.render import Renderer, id_color_bgr
from tddfa_ros.core.texture_layout import LARGEST_TEXTURE

# Goldens: 99.5 % of face pixels within 3/255, as their README says.
GOLDEN_STEPS, GOLDEN_SHARE = 3, 0.995


@pytest.fixture
def dome(dome_model):
    """Renderer of a hemisphere with radius 1 that bulges towards z."""
    return Renderer(dome_model)


def placed(model, *, scale=60.0, centre=(80.0, 70.0), depth=0.0, turn=None):
    """Vertices of the model in image space, as seen by an upright camera."""
    points = model.mean if turn is None else model.mean @ np.asarray(turn, np.float32).T
    return (points * [scale, -scale, scale] + [*centre, depth]).astype(np.float32)


def test_depth_of_a_sphere(dome):
    vertices = placed(dome.face_model)
    frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [vertices])
    metric = frame.depth_metric([2.0 - 0.01 * vertices[:, 2]])
    y, x = np.nonzero(~np.isnan(metric))
    across = (x - 80.0) ** 2 + (y - 70.0) ** 2
    assert (across < 61.0**2).all()
    inner = across < 50.0**2
    assert inner.sum() > 7000
    truth = 2.0 - 0.01 * np.sqrt(3600.0 - across[inner])
    assert np.abs(metric[y, x][inner] - truth).max() < 2e-3  # flat triangles below the sphere
    view = frame.depth_view()
    expected = np.where(np.isnan(metric), 0, (2.0 - metric) / 0.01 / 60.0 * 255)
    assert np.abs(view.astype(float) - expected).max() <= 1.01


def test_normals_of_a_sphere(dome):
    frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [placed(dome.face_model)])
    normals = frame.normals()[..., ::-1].astype(float)
    y, x = np.mgrid[:140, :160]
    nx, ny = (x - 80) / 60, (70 - y) / 60
    inner = nx**2 + ny**2 < 0.8**2
    truth = np.dstack([nx, ny, np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))])
    assert np.abs(normals - (128 + 127 * truth))[inner].max() < 4
    assert not normals[frame.face_index() < 0].any()


def test_normals_are_given_back_within_half_a_step(dome):
    """Flat discs, whose normals are known exactly, tilted this way and that."""
    for slopes in np.random.default_rng(4).uniform(-2, 2, (12, 2)):
        vertices = placed(dome.face_model)
        vertices[:, 2] = (vertices[:, :2] - [80, 70]) @ slopes
        frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [vertices])
        # z grows towards the viewer, y downwards in the image but upwards in its normals.
        truth = np.array([-slopes[0], slopes[1], 1]) / np.hypot(1, np.hypot(*slopes))
        y, x = np.mgrid[:140, :160]
        inner = np.hypot(x - 80, y - 70) < 50
        back = (frame.normals()[inner][:, ::-1].astype(float) - 128) / 127
        assert np.abs(back - truth).max() <= 0.5001 / 127


def test_texture_coordinates_are_where_the_mesh_says(dome):
    """The dome's u and v are its x and y, so they are linear in the image."""
    frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [placed(dome.face_model)])
    uv = frame.uv_coordinates()
    y, x = np.nonzero(frame.face_index() == 0)
    assert len(y) > 10000
    truth = np.column_stack([(x - 80) / 120 + 0.5, (70 - y) / 120 + 0.5])
    assert np.abs(uv[y, x] - truth).max() < 1e-3
    assert np.isnan(uv[frame.face_index() < 0]).all()
    view = frame.uv()
    assert np.abs(view[y, x, 2] - 255 * truth[:, 0]).max() <= 1
    assert np.abs(view[y, x, 1] - 255 * truth[:, 1]).max() <= 1
    assert (view[y, x, 0] == 255).all()


def test_pncc_is_the_place_on_the_mean_face(dome):
    turn = np.diag([-1.0, -1.0, 1.0])  # half a turn in the image
    frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [placed(dome.face_model, turn=turn)])
    y, x = np.nonzero(frame.face_index() == 0)
    truth = np.column_stack([(80 - x) / 120 + 0.5, (y - 70) / 120 + 0.5]) * 255
    assert np.abs(frame.pncc()[y, x, :2] - truth).max() <= 2


def test_overlay_of_known_light(dome):
    """At the middle of a sphere the normal meets the light: 0.3 + 0.6 + 0.1, as in the original."""
    image = np.full((140, 160, 3), 40, np.uint8)
    frame = dome.frame(image, [placed(dome.face_model)])
    overlay = frame.overlay()
    assert np.abs(overlay[70, 80].astype(int) - round(0.4 * 40 + 0.6 * 255)).max() <= 1
    outside = frame.face_index() < 0
    assert np.array_equal(overlay[outside], image[outside])
    assert (image == 40).all()
    brightness = overlay[70, 80:139, 0].astype(int)
    assert (np.diff(brightness) <= 0).all()
    assert np.array_equal(frame.overlay(alpha=0.0), image)
    assert np.array_equal(overlay[70, 80:139], overlay[70, 80:21:-1])


def test_flat_overlay_has_the_colour_of_the_id(dome):
    image = np.full((140, 160, 3), 100, np.uint8)
    frame = dome.frame(image, [placed(dome.face_model)], ["f00001"])
    flat = frame.overlay(alpha=1.0, flat=True)
    inside = frame.face_index() == 0
    assert np.abs(flat[inside].astype(int) - id_color_bgr("f00001")).max() <= 1
    assert id_color_bgr("f00001") != id_color_bgr("f00002")


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_of_two_faces_hides_the_other(dome, near_first):
    """Each mesh's depths begin at 0, so that the edge of the near one is not before the far one."""
    near = placed(dome.face_model, scale=45, centre=(60, 60))
    far = placed(dome.face_model, scale=35, centre=(95, 75))
    meshes = [near, far] if near_first else [far, near]
    image = np.zeros((140, 160, 3), np.uint8)
    index = dome.frame(image, meshes).face_index()
    alone = dome.frame(image, [near]).face_index() == 0
    assert (index[alone] == meshes.index(near) if near_first else index[alone] == 1).all()
    frame = dome.frame(image, meshes)
    far_seen = frame.seen(1 if near_first else 0)
    beneath = np.hypot(far[:, 0] - 60, far[:, 1] - 60) < 43
    assert beneath.sum() > 100
    assert not far_seen[beneath].any()
    assert (frame.seen(0 if near_first else 1)[np.hypot(*(near[:, :2] - 60).T) < 43] > 0).all()
    for part, face in ((near, 0), (far, 1)):
        both = dome.frame(image, [near, far])
        single = dome.frame(image, [part])
        shown = both.face_index() == face
        assert np.array_equal(both.pncc()[shown], single.pncc()[shown])
        assert np.array_equal(both.normals()[shown], single.normals()[shown])
        assert np.array_equal(both.depth_view()[shown], single.depth_view()[shown])


def test_seen_is_the_cosine_of_sight(dome):
    vertices = placed(dome.face_model)
    frame = dome.frame(np.zeros((140, 160, 3), np.uint8), [vertices])
    facing = dome.face_model.mean[:, 2]
    inner = facing > 0.3
    assert np.abs(frame.seen(0)[inner] - facing[inner]).max() < 0.02
    back = dome.frame(frame.image_bgr, [placed(dome.face_model, turn=np.diag([-1.0, 1, -1]))])
    assert back.visible_vertices(0).mean() < 0.02
    half = dome.frame(frame.image_bgr, [placed(dome.face_model, centre=(0.0, 70.0))])
    assert not half.visible_vertices(0)[dome.face_model.mean[:, 0] < -0.01].any()


@pytest.mark.parametrize("yaw_deg", [-70, -30, 0, 40, 80])
def test_landmarks_are_seen_where_the_sphere_faces_the_camera(dome_model, yaw_deg):
    rng = np.random.default_rng(3)
    triangles = rng.choice(len(dome_model.triangles), 68, replace=False).astype(np.int32)
    weights = rng.dirichlet([1, 1, 1], 68).astype(np.float32)
    model = dataclasses.replace(dome_model, landmark_triangles=triangles, landmark_weights=weights)
    c, s = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    points = (model.mean[model.triangles[triangles]] * weights[..., None]).sum(axis=1) @ turn.T
    renderer, image = Renderer(model), np.zeros((140, 160, 3), np.uint8)
    seen = renderer.frame(image, [placed(model, turn=turn)]).landmark_visibility(0)
    assert seen.dtype == np.float32
    sure = np.abs(points[:, 2]) > 0.12
    assert sure.sum() > 40
    np.testing.assert_array_equal(seen[sure], points[sure, 2] > 0)
    # Behind another face, and outside the image, nothing is seen.
    front = placed(model, scale=75, depth=200)
    hidden = renderer.frame(image, [placed(model, turn=turn), front])
    assert not hidden.landmark_visibility(0).any()
    away = placed(model, centre=(-200.0, 70.0))
    assert not renderer.frame(image, [away]).landmark_visibility(0).any()


def test_a_landmark_on_a_vertex_is_seen_as_that_is(dome_model):
    """Whether or not the rest of its triangle is, at the border of the image."""
    image, half = np.zeros((140, 160, 3), np.uint8), placed(dome_model, centre=(0.0, 70.0))
    seen = Renderer(dome_model).frame(image, [half]).visible_vertices(0)[dome_model.triangles]
    parted = np.resize(np.flatnonzero(seen.any(axis=1) & ~seen.all(axis=1)), 34)
    corners = np.concatenate([seen[parted].argmax(axis=1), seen[parted].argmin(axis=1)])
    model = dataclasses.replace(
        dome_model,
        landmark_triangles=np.tile(parted, 2).astype(np.int32),
        landmark_weights=np.eye(3, dtype=np.float32)[corners],
    )
    visibility = Renderer(model).frame(image, [half]).landmark_visibility(0)
    np.testing.assert_array_equal(visibility, np.repeat([1, 0], 34))


def test_all_outputs_share_one_pass(dome, monkeypatch):
    drawn = []
    original = VisibilityBuffer.draw
    monkeypatch.setattr(
        VisibilityBuffer, "draw", lambda self, *a, **k: drawn.append(1) or original(self, *a, **k)
    )
    image = np.zeros((140, 160, 3), np.uint8)
    frame = dome.frame(image, [placed(dome.face_model)] * 2)
    assert not drawn
    for make in (frame.overlay, frame.depth_view, frame.pncc, frame.normals, frame.uv):
        make()
    frame.seen(0)
    assert len(drawn) == 2


def test_the_order_in_which_pictures_are_asked_for_changes_none(dome):
    """The picture of the normals needs those alone that it shows."""
    image = np.random.default_rng(0).integers(0, 256, (140, 160, 3), np.uint8)
    vertices = [placed(dome.face_model)]
    first, second = dome.frame(image, vertices), dome.frame(image, vertices)
    normals = first.normals()
    seen, (texture, weight) = second.seen(0), second.texture(0, 64)
    np.testing.assert_array_equal(first.seen(0), seen)
    for one, other in zip(first.texture(0, 64), (texture, weight), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(second.normals(), normals)


def test_frames_of_one_renderer_may_interleave(dome):
    image, larger = np.zeros((140, 160, 3), np.uint8), np.zeros((200, 150, 3), np.uint8)
    first = dome.frame(image, [placed(dome.face_model)])
    second = dome.frame(larger, [placed(dome.face_model, scale=20, centre=(30, 100))])
    expected = [frame.depth_view() for frame in (first, second)]
    for frame, depth in zip((first, second, first), (*expected, expected[0]), strict=True):
        assert np.array_equal(frame.depth_view(), depth)


def test_no_face_and_faces_out_of_sight(dome):
    image = np.full((50, 60, 3), 9, np.uint8)
    away = placed(dome.face_model, centre=(-900, 20))
    for meshes in ([], [away], [np.full_like(away, np.nan)], [np.full_like(away, 1e30)]):
        frame = dome.frame(image, meshes)
        assert np.array_equal(frame.overlay(), image)
        for picture in (frame.depth_view(), frame.pncc(), frame.normals(), frame.uv()):
            assert not picture.any()
        for face in range(len(meshes)):
            assert not frame.visible_vertices(face).any()
            assert not frame.texture(face, 16)[0].any()
            assert frame.dense_points(face).shape == (0, 2)


@pytest.mark.parametrize("scale", [5, 12, 30, 60, 75, 90, 120])
def test_of_nine_visible_pixels_one_at_most_has_a_dense_point(dome, scale):
    image = np.zeros((260, 260, 3), np.uint8)
    frame = dome.frame(image, [placed(dome.face_model, scale=scale, centre=(130, 130))])
    count, pixels = len(frame.dense_points(0)), np.count_nonzero(frame.face_index() == 0)
    assert 1 <= count <= np.ceil(pixels / 9)
    # Vertices are left out by a whole step, or none is.
    assert count > pixels / 18 or count == frame.visible_vertices(0).sum()


def test_a_small_face_in_a_large_picture(dome):
    """Buffers cost what the face covers, so 48 megapixels are no matter."""
    image = np.zeros((6000, 8000, 3), np.uint8)
    frame = dome.frame(image, [placed(dome.face_model, scale=8, centre=(7990, 5990))])
    y, x = np.nonzero(frame.face_index() == 0)
    assert abs(len(y) - np.pi * 8**2) < 10
    assert np.hypot(x - 7990, y - 5990).max() < 8.1
    assert frame.depth_view()[5990, 7990] >= 250
    assert frame.visible_vertices(0).any()


def test_bad_arguments_are_named(dome):
    image = np.zeros((50, 60, 3), np.uint8)
    with pytest.raises(TddfaError, match="one model set"):
        dome.frame(image, [np.zeros((4, 3), np.float32)])
    with pytest.raises(TddfaError, match="2 ids for 1"):
        dome.frame(image, [placed(dome.face_model)], ["a", "b"])
    with pytest.raises(ImageError):
        dome.frame(image[..., 0], [])
    with pytest.raises(ImageError, match="scale it down"):
        dome.frame(np.zeros((1, 40000, 3), np.uint8), [])
    with pytest.raises(TddfaError, match="texture"):
        dome.frame(image, [placed(dome.face_model)]).texture(0, LARGEST_TEXTURE + 1)
    with pytest.raises(TddfaError, match="depths of 0"):
        dome.frame(image, [placed(dome.face_model)]).depth_metric([])


def test_the_texture_put_back_gives_the_image(dome):
    """Image to texture and, through the texture coordinates, back to the image."""
    y, x = np.mgrid[:140, :160]
    image = np.dstack([x, y, (x + y) / 2]).astype(np.uint8)
    frame = dome.frame(image, [placed(dome.face_model)])
    texture, weight = frame.texture(0, 256)
    assert np.array_equal(weight > 0, texture[..., 3] == 255)
    uv = frame.uv_coordinates()
    inside = ~np.isnan(uv[..., 0]) & ((x - 80) ** 2 + (y - 70) ** 2 < 50**2)
    places = (uv[inside] * [255, -255] + [0, 255]).astype(np.float32)
    back = sample_bilinear(texture, places)
    assert np.abs(back[:, :3] - image[inside]).max() < 1.5


@pytest.fixture(scope="module", params=["JianzhuGuo", "trump_hillary"])
def golden_frame(request, model_set, golden, media):
    """Renderer, frame of the golden vertices, and a reader of the golden pictures."""
    image = cv2.imread(str(media / f"{request.param}.jpg"))
    dense = np.load(golden / f"{request.param}.npz")["dense"]
    renderer = Renderer(model_set.face_model)
    frame = renderer.frame(image, [mesh.T for mesh in dense])
    return renderer, frame, lambda name: cv2.imread(str(golden / f"{request.param}_{name}.png"))


@pytest.mark.parametrize("name", ["depth", "pncc"])
def test_parity_of_depth_and_pncc(golden_frame, name):
    _, frame, read = golden_frame
    expected = read(name).astype(int)
    ours = frame.pncc() if name == "pncc" else np.repeat(frame.depth_view()[..., None], 3, axis=2)
    face = expected.any(axis=2) | (frame.face_index() >= 0)
    close = np.abs(ours - expected).max(axis=2)[face] <= GOLDEN_STEPS
    assert close.mean() >= GOLDEN_SHARE


def test_parity_of_the_overlay(golden_frame):
    _, frame, read = golden_frame
    difference = np.abs(frame.overlay().astype(int) - read("3d_sim3dr")).max(axis=2)
    face = frame.face_index() >= 0
    assert (difference[face] <= GOLDEN_STEPS).mean() >= GOLDEN_SHARE
    assert not difference[~face].any()


def test_parity_of_the_texture_where_it_is_seen(golden_frame):
    """The original interpolates colours taken at the vertices; ours takes each texel's own."""
    renderer, frame, read = golden_frame
    unwrapped = renderer.texture_layout.unwrapped((256, 256))
    expected = read("uv_tex").astype(int)
    for face, mesh in enumerate(frame.vertices):
        theirs = expected[:, 256 * face : 256 * (face + 1)]
        texture, _ = frame.texture(face, 256)
        # The original leaves the texels on the exact upper edge empty.
        seen = (texture[..., 3] > 0) & theirs.any(axis=2)
        assert seen.sum() > 20000
        in_their_way = np.zeros((256, 256, 3), np.uint8)
        unwrapped.interpolate(0, sample_bilinear(frame.image_bgr, mesh[:, :2]), in_their_way)
        close = np.abs(in_their_way - theirs).max(axis=2)[seen] <= GOLDEN_STEPS
        assert close.mean() >= GOLDEN_SHARE
        assert np.abs(texture[..., :3] - theirs)[seen].mean() < GOLDEN_STEPS
