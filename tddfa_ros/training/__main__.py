"""``python -m tddfa_ros.training VERB``: makes, trains and measures the embedded model set."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import MediaError, TddfaError
from tddfa_ros.training import (
    checkpoint,
    detector_weights,
    embedded,
    evaluate,
    makehuman,
    makehuman_files,
    packed,
)
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.curves import Curves
from tddfa_ros.training.loop import train_together
from tddfa_ros.training.networks import DetectorNet
from tddfa_ros.training.recipe import Recipe
from tddfa_ros.training.together import TrainingError
from tddfa_ros.training.train_detector import DetectorTraining
from tddfa_ros.training.train_regressor import RegressorTraining

_RUN = Path("~/.cache/tddfa_ros/training")
_FURTHER_SHARE = 0.05
"""Of the rates, for a run that begins with a trained network: more undoes what that has learned. At
a tenth (AdamW: a fifth) 0.66 million crops brought the shipped network back to where it was, 1.4
million in true places from 3.32 to 3.25 %."""
_SET = Path(__file__).resolve().parents[2] / "models" / "embedded"

RECIPES = {
    "full": {
        "regressor": Recipe(minutes=240, processes=2, reuse=5.0, replay=30000),
        "detector": Recipe(minutes=180, workers=1, batch=24, replay=6000, pool=1200, held_out=128),
    },
    "small": {
        "regressor": Recipe(
            examples=19200,
            workers=0,
            warm_up=30,
            decay_share=0.3,
            clips_from=0.8,
            replay=6000,
            reuse=6.0,
            pool=500,
            held_out=128,
            report_seconds=45,
        ),
        "detector": Recipe(
            examples=1600,
            workers=0,
            batch=16,
            replay=1000,
            pool=200,
            held_out=32,
            report_seconds=20,
        ),
    },
}
"""Two cores take seven hours for the full recipe and some minutes for the small one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tddfa_ros.training", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    make = verbs.add_parser("make", help="build the rig from the MakeHuman head")
    make.add_argument("head", type=Path, help="packed head (.npz), or folder of a checkout")
    make.add_argument("--fetch", action="store_true", help="first download into that folder")
    make.add_argument("--out", type=Path, default=_SET / embedded.RIG_FILE)
    make.add_argument("--samples", type=int, default=2000, help="adults drawn for the components")

    train = verbs.add_parser("train", help="train a network, or go on with a run")
    train.add_argument("network", choices=("regressor", "detector"))
    train.add_argument("--rig", type=Path, help="instead of that of the set")
    train.add_argument("--run", type=Path, default=_RUN, help="folder of states and curves")
    train.add_argument(
        "--from", dest="base", type=Path, metavar="SET", help="begin with this set's network"
    )
    train.add_argument("--recipe", choices=tuple(RECIPES), default="full")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="wall time, in all resumptions together")
    length.add_argument("--examples", type=int, help="length in examples instead of minutes")
    train.add_argument("--processes", type=int, help="that train together, one a core at most")
    train.add_argument("--workers", type=int, help="that make pictures for one that trains")
    train.add_argument("--device", help="cpu or cuda")
    train.add_argument("--batch", type=int, help="examples a step of each process")
    train.add_argument("--replay", type=int, help="examples kept, where the network is")
    train.add_argument("--reuse", type=float, help="most times that an example is used, on average")
    train.add_argument(
        "--rates",
        type=float,
        metavar="SHARE",
        help=f"of the recipe's highest rates; with --from {_FURTHER_SHARE} unless told otherwise",
    )
    train.add_argument(
        "--plain", type=float, metavar="SHARE", help="of crops that nothing hides or degrades"
    )
    train.add_argument(
        "--hold-from",
        type=float,
        metavar="SHARE",
        help="of a run with --from, after which normalisations stay as they are",
    )
    train.add_argument(
        "--keep-body",
        action="store_true",
        help="of the regressor that --from names: only what reads its maps learns, twice as fast",
    )
    train.add_argument("--seed", type=int)

    average = verbs.add_parser("average", help="mean of the weights of several states")
    average.add_argument("states", type=Path, nargs="+", metavar="STATE", help="oldest first (.pt)")
    average.add_argument("--out", type=Path, required=True, help="<network>.pt of another run")

    export = verbs.add_parser("export", help="write the model set of a run")
    export.add_argument("--rig", type=Path, default=_SET / embedded.RIG_FILE)
    export.add_argument("--run", type=Path, default=_RUN)
    export.add_argument("--out", type=Path, default=_SET)
    export.add_argument(
        "--base", type=Path, help="set whose network is taken where the run has none"
    )
    export.add_argument("--score-threshold", type=float, help="instead of the usual one")
    export.add_argument(
        "--calibration-crops",
        type=int,
        default=128,
        help="that ranges of integers are sought with; fewer take less time (default %(default)s)",
    )

    check = verbs.add_parser("evaluate", help="measure a model set")
    check.add_argument("--set", type=Path, default=_SET)
    check.add_argument("--synthetic", type=int, default=1000, help="held-out people")
    check.add_argument("--photos", type=Path, help="folder of .jpg with .mat (pt3d_68) beside")
    check.add_argument("--video", type=Path, help="of one face, whose --boxes are known")
    check.add_argument(
        "--boxes", type=Path, metavar="NPZ", help=f"{evaluate.BOXES} (frames, 4) of the --video"
    )
    check.add_argument("--without-faces", type=Path, metavar="FOLDER", help="pictures of no face")

    options = parser.parse_args(argv)
    try:
        if "run" in options:
            options.run = model_set.expanded(options.run)
        _VERBS[options.verb](options)
    except TddfaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _make(options: argparse.Namespace) -> None:
    if options.fetch:
        count = makehuman_files.fetch(options.head, makehuman_files.manifest())
        sys.stdout.write(f"{options.head}: {count} files fetched; CC0 1.0, by MakeHuman\n")
    rig = rig_file.build(makehuman.load(options.head), samples=options.samples)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rig_file.save(rig, options.out)
    sys.stdout.write(f"{options.out}: {len(rig.mean)} vertices\n")


def _start(options: argparse.Namespace) -> str:
    """Weights to begin with. What is wrong with them is told before several processes begin."""
    if options.network == "detector":
        detector_weights.unpack(DetectorNet(), options.base)
        return str(options.base)
    path = options.base / embedded.WEIGHTS_FILE
    packed.read(path)
    return str(path)


def _train(options: argparse.Namespace) -> None:
    changes = ("minutes", "examples", "processes", "workers", "device", "seed", "batch", "replay")
    changes += ("reuse", "plain", "hold_from")
    recipe = RECIPES[options.recipe][options.network]
    if options.minutes is not None:
        recipe = dataclasses.replace(recipe, examples=None)
    given = {name: value for name in changes if (value := getattr(options, name)) is not None}
    if options.workers or options.device not in (None, "cpu"):
        given.setdefault("processes", 1)  # one learns, or feeds a GPU, of what workers draw
    if options.workers and given["processes"] > 1:
        raise TrainingError(
            f"--workers {options.workers} with --processes {options.processes}: several processes "
            "draw their own pictures; leave one of the two out"
        )
    recipe = dataclasses.replace(recipe, **given)
    if options.base is not None:
        recipe = dataclasses.replace(recipe, start=_start(options), keep_body=options.keep_body)
    elif options.hold_from is not None:
        raise TrainingError("--hold-from: only a run with --from holds its normalisations")
    elif options.keep_body:
        raise TrainingError("--keep-body: only a run with --from has a body to keep")
    if options.network != "regressor":
        for name in ("plain", "hold_from", "keep_body"):
            if getattr(options, name):
                raise TrainingError(f"--{name.replace('_', '-')}: is of the regressor alone")
    share = _FURTHER_SHARE if options.base else 1.0
    if options.rates is not None:
        share = options.rates
    recipe = dataclasses.replace(
        recipe, rate=share * recipe.rate, muon_rate=share * recipe.muon_rate
    )
    kind = {"regressor": RegressorTraining, "detector": DetectorTraining}[options.network]
    rig = options.rig or (options.base or _SET) / embedded.RIG_FILE
    curves = Curves(options.run / f"{options.network}.csv")
    before = len(curves.read().get("seen", ()))
    train_together(kind, rig, options.run, recipe)
    rows = curves.read()
    if len(rows.get("seen", ())) == before:
        sys.stdout.write(
            f"{options.run}: nothing to train, as the run has this length already; it goes on with "
            "a larger one (--minutes, --examples)\n"
        )
        return
    columns = ["loss", *(("held_out_nme",) if options.network == "regressor" else ("heat", "box"))]
    curves.plot(options.run / f"{options.network}.png", columns)
    last = {name: float(values[-1]) for name, values in rows.items()}
    sys.stdout.write(f"{json.dumps(last)}\n")


def _average(options: argparse.Namespace) -> None:
    mean = checkpoint.mean_of(options.states)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(options.out, mean)
    sys.stdout.write(f"{options.out}: mean of {len(options.states)} states\n")


def _export(options: argparse.Namespace) -> None:
    written = embedded.write(
        options.run,
        options.rig,
        options.out,
        base=options.base,
        score_threshold=options.score_threshold,
        calibration_crops=options.calibration_crops,
    )
    size = sum(file.stat().st_size for file in written.path.iterdir())
    sys.stdout.write(f"{written.path}: {size / 1e6:.1f} MB\n")


def _evaluate(options: argparse.Namespace) -> None:
    if (options.video is None) != (options.boxes is None):
        raise MediaError("--video and --boxes: the one is nothing without the other")
    # What is wrong with files is told before the work.
    annotated = evaluate.annotated(options.photos) if options.photos else []
    filmed = evaluate.filmed(options.video, options.boxes) if options.video else None
    faceless = evaluate.read_frames(options.without_faces) if options.without_faces else []
    loaded = model_set.load(options.set)
    stream, still = (evaluate.Fitter(loaded, still=still) for still in (False, True))
    single = evaluate.Fitter(loaded, mirrored=False)
    rig = rig_file.load(options.set / embedded.RIG_FILE)
    hidden, plain = (evaluate.new_people(rig, options.synthetic, plain=p) for p in (False, True))
    figures = {
        "synthetic": evaluate.synthetic(stream, hidden),
        "synthetic_without_mirror": evaluate.synthetic(single, hidden),
        "synthetic_as_stills": evaluate.synthetic(still, hidden),
        "synthetic_plain": evaluate.synthetic(stream, plain),
    }
    if annotated:
        figures["photos_as_stills"] = evaluate.photos(still, annotated)
    if filmed:
        figures["video"] = evaluate.video(stream, *filmed)
        figures["video_without_mirror"] = evaluate.video(single, *filmed)
    if faceless:
        figures["false_faces"] = evaluate.false_faces(stream, faceless)
    sys.stdout.write(json.dumps(_known(figures), indent=1, allow_nan=False) + "\n")


def _known(figures: Any) -> Any:
    """The same with None for NaN, for which JSON has no word."""
    if isinstance(figures, dict):
        return {name: _known(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [_known(value) for value in figures]
    return None if isinstance(figures, float) and np.isnan(figures) else figures


_VERBS = {
    "make": _make,
    "train": _train,
    "average": _average,
    "export": _export,
    "evaluate": _evaluate,
}

if __name__ == "__main__":
    sys.exit(main())
