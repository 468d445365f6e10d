"""Pictures of every output for docs/outputs.md, made from the astronaut photograph.

``python -m docs.output_pictures --model-set embedded`` in the repository's root makes them anew and
lists them in docs/outputs.md. Those of another model set go to out/outputs/ and are not listed:
what is made with ``tddfa_v2`` derives from the Basel Face Model and may not be passed on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import trimesh
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer, vertex_light

from tddfa_ros.core import model_set
from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.outputs import OUTPUTS, Scene, encode
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.render import Lighting, Renderer
from tddfa_ros.core.sample_media import astronaut_view

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "outputs.md"
COMMITTED = "embedded"
"""The one model set whose pictures may be committed."""
BEGIN = "<!-- pictures: made by docs/output_pictures.py -->"
END = "<!-- end of pictures -->"
NONE_YET = (
    "There are no pictures here yet: they may only be made with the `embedded` model set. With any "
    "set, the command above leaves them in `out/outputs/`."
)
COLUMNS = 3
VIEW_SCALE = 2.4
VIEW_WH = (400, 400)
FACE_XY = (200.0, 200.0)
MESH_TURN_RAD = np.deg2rad(35.0)
MESH_BACKGROUND = 255


def scene_of(models: model_set.ModelSet) -> Scene:
    """Fit the astronaut, enlarged so that the face fills the picture.

    Raises
    ------
    TddfaError
        The model set finds no face there.
    """
    image_bgr = astronaut_view(VIEW_SCALE, 0.0, FACE_XY, VIEW_WH)
    pipeline = FacePipeline(models, PipelineConfig())
    faces = pipeline.process_still(image_bgr).faces
    pipeline.close()
    if not faces:
        raise TddfaError(f"model set {models.name}: finds no face in the astronaut's picture")
    renderer = Renderer(models.face_model)
    return Scene(image_bgr, faces[:1], renderer, pipeline.model, texture_size=512)


def mesh_view(path: Path) -> np.ndarray:
    """Picture of a mesh file as trimesh reads it, turned aside, (height, width, 3) uint8 BGR."""
    mesh = trimesh.load(path, process=False, force="mesh")
    cos, sin = np.cos(MESH_TURN_RAD), np.sin(MESH_TURN_RAD)
    turned = mesh.vertices @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T
    low, high = turned.min(axis=0), turned.max(axis=0)
    scale = 0.9 * min(VIEW_WH / (high - low)[:2])
    placed = ((turned - (low + high) / 2) * scale * [1, -1, 1]).astype(np.float32)
    placed[:, :2] += np.array(VIEW_WH) / 2
    topology = MeshTopology(mesh.faces.astype(np.int32), len(placed))
    buffer = VisibilityBuffer(*VIEW_WH[::-1])
    buffer.draw(placed, topology)
    canvas = np.full((*VIEW_WH[::-1], 3), MESH_BACKGROUND, np.uint8)
    if mesh.visual.kind == "texture":
        at = np.full((*VIEW_WH[::-1], 2), -1.0, np.float32)
        buffer.interpolate(0, mesh.visual.uv.astype(np.float32), at)
        return _textured(mesh.visual.material, at, canvas)
    if mesh.visual.kind == "vertex":
        colors = mesh.visual.vertex_colors[:, 2::-1].astype(np.float32)
        return buffer.interpolate(0, np.ascontiguousarray(colors), canvas, offset=0.5)
    light = vertex_light(placed, topology, buffer.shown_vertices(0), buffer.extent(0), Lighting())
    buffer.blend(0, light, canvas, alpha=1.0)
    return canvas


def _textured(material: object, at: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    """Colour of the texture at (height, width, 2) coordinates, -1 where there is no mesh."""
    picture = getattr(material, "baseColorTexture", None) or material.image
    texture = np.asarray(picture.convert("RGB"))[..., ::-1]
    height, width = texture.shape[:2]
    x, y = at[..., 0] * width - 0.5, (1.0 - at[..., 1]) * height - 0.5
    shown = cv2.remap(texture, x, y.astype(np.float32), cv2.INTER_LINEAR)
    return np.where(at[..., :1] >= 0, shown, canvas)


def pictures(scene: Scene) -> dict[str, tuple[str, bytes]]:
    """Name of each output -> suffix and content of its picture."""
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, output in OUTPUTS.items():
            if output.picture is not None:
                suffix, picture = output.suffix, output.picture(scene)
            else:
                suffix = ".jpg"
                picture = mesh_view(output.write(scene, Path(folder) / f"x{output.suffix}")[0])
            made[name] = suffix, encode(picture, suffix)
    return made


def gallery(suffixes: dict[str, str]) -> str:
    """Markdown table of pictures, by the suffix of each; the sentence that there are none."""
    if not suffixes:
        return NONE_YET
    cells = [f"![{name}](outputs/{name}{suffix})<br>`{name}`" for name, suffix in suffixes.items()]
    cells += [""] * (-len(cells) % COLUMNS)
    lines = ["|" + " |" * COLUMNS, "|" + "---|" * COLUMNS]
    for first in range(0, len(cells), COLUMNS):
        lines.append(f"| {' | '.join(cells[first : first + COLUMNS])} |")
    return "\n".join(lines)


def with_gallery(page: str, suffixes: dict[str, str]) -> str:
    """Return the page's text with its pictures listed anew."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name} has no {BEGIN} ... {END}")
    return f"{before}{begin}\n\n{gallery(suffixes)}\n\n{end}{after}"


def main(args: Sequence[str] | None = None) -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model-set", default=COMMITTED, metavar="SET", help="name or path")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="another folder; lists nothing")
    options = parser.parse_args(args)
    try:
        models = model_set.load(model_set.find(options.model_set))
        made = pictures(scene_of(models))
    except TddfaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    listed = options.out is None and models.name == COMMITTED
    folder = options.out or (DOCS / "outputs" if listed else DOCS.parent / "out" / "outputs")
    for name, (suffix, content) in made.items():
        with replacing(folder / f"{name}{suffix}") as temporary:
            temporary.write_bytes(content)
    if listed:
        page = with_gallery(PAGE.read_text(), {name: suffix for name, (suffix, _) in made.items()})
        with replacing(PAGE) as temporary:
            temporary.write_text(page)
    sys.stdout.write(f"{len(made)} pictures in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
