"""Fit the faces in pictures: <stem>.json with the results and <stem>_overlay.jpg for each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tddfa_ros.core import media, model_set
from tddfa_ros.core.atomic_file import replaced_input, replacing
from tddfa_ros.core.config_arguments import add_config_arguments, config_from
from tddfa_ros.core.errors import MediaError, TddfaError
from tddfa_ros.core.outputs import OUTPUTS, write_picture
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.results import face_to_dict
from tddfa_ros.tools.outputs import Stage, Wishes, add_output_arguments, wishes_from

EXAMPLES = """examples:
  python -m tddfa_ros image photo.jpg --out results
  python -m tddfa_ros image photos/*.jpg --model-set tddfa_v2 --out results \\
      --outputs mesh,depth,ply
"""

SETTINGS = (
    "model_set",
    "max_faces",
    "detection_threshold",
    "small_faces",
    "confidence_threshold",
    "detector_threads",
    "regressor_threads",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="pictures to read")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    add_output_arguments(parser)
    add_config_arguments(parser, SETTINGS)


def output_stems(paths: Iterable[Path]) -> list[str]:
    """One name a file, in order: its stem, or stem_2, stem_3, ... where that is taken.

    Names that differ in case only count as the same, as they do on some file systems.
    """
    taken: set[str] = set()
    counts: dict[str, int] = {}  # to go on from, where thousands have one stem
    stems = []
    for path in paths:
        stem, key = path.stem, path.stem.casefold()
        count = counts.get(key, 1)
        while stem.casefold() in taken:
            count += 1
            stem = f"{path.stem}_{count}"
        counts[key] = count
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _output_path(out: Path, stem: str, name: str) -> Path:
    return out / f"{stem}_{name}{OUTPUTS[name].suffix}"


def _files(out: Path, stem: str, wishes: Wishes, max_faces: int) -> Iterator[Path]:
    """All files that one picture may get."""
    yield out / f"{stem}.json"
    if wishes.overlay:
        yield out / f"{stem}_overlay.jpg"
    mesh_count = 1 if wishes.mesh_pose == "image" else max_faces
    for name in wishes.names:
        yield from OUTPUTS[name].files(_output_path(out, stem, name), mesh_count)


def _check_out(args: argparse.Namespace, stems: list[str], wishes: Wishes, max_faces: int) -> None:
    """Raise :class:`MediaError` if the run would replace what it reads."""
    outputs = (path for stem in stems for path in _files(args.out, stem, wishes, max_faces))
    path = replaced_input(outputs, args.files)
    if path is not None:
        raise MediaError(f"{path}: is one of the inputs; choose another --out")


def _write(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise MediaError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def _fit_file(pipeline: FacePipeline, stage: Stage, path: Path, out: Path, stem: str) -> int:
    image_bgr = media.read_image(path)
    result = pipeline.process_still(image_bgr)
    scene, wishes = stage.scene(image_bgr, result), stage.wishes
    if wishes.overlay:
        write_picture(out / f"{stem}_overlay.jpg", scene.overlay(wishes.overlay))
    for name in wishes.names:
        OUTPUTS[name].write(scene, _output_path(out, stem, name))
    document = {
        "image": str(path),
        "image_width": result.image_width,
        "image_height": result.image_height,
        "model_set": pipeline.model_set.name,
        "faces": [face_to_dict(face) for face in result.faces],
    }
    _write(out / f"{stem}.json", json.dumps(document, allow_nan=False, indent=1).encode())
    return len(result.faces)


def run(args: argparse.Namespace) -> int:
    """Fit every file; one that cannot be read is named and the others go on.

    Returns
    -------
    int
        0, or 1 if a file failed.

    Raises
    ------
    MediaError
        An output would replace one of the files; nothing is written.
    """
    config, wishes = config_from(args), wishes_from(args)
    stems = output_stems(args.files)
    _check_out(args, stems, wishes, config.max_faces)
    chosen = model_set.load(model_set.find(config.model_set))
    pipeline = FacePipeline(chosen, config)
    stage = Stage(pipeline, wishes)
    failed = 0
    try:
        for path, stem in zip(args.files, stems, strict=True):
            try:
                count = _fit_file(pipeline, stage, path, args.out, stem)
            except TddfaError as error:
                failed += 1
                sys.stderr.write(f"tddfa_ros image: {error}\n")
            else:
                faces = "1 face" if count == 1 else f"{count} faces"
                sys.stdout.write(f"{path}: {faces} -> {args.out / stem}.json\n")
    finally:
        pipeline.close()
    if failed:
        sys.stderr.write(f"tddfa_ros image: {failed} of {len(args.files)} files failed\n")
    return 1 if failed else 0
