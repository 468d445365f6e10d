"""List, import, fetch and verify model sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tqdm

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import DownloadError, ModelSetError, TddfaError
from tddfa_ros.core.model_set_writer import check_replaceable
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.fetch import Connection, fetch_release

EXAMPLES = """examples:
  python -m tddfa_ros models list
  python -m tddfa_ros models fetch
  python -m tddfa_ros models fetch yunet --base embedded
  python -m tddfa_ros models import 3DDFA_V2/ --out sets/tddfa_v2 --regressor mb05
  python -m tddfa_ros models verify tddfa_v2
"""

SET_NAME = "tddfa_v2"
YUNET = "yunet"
DOWNLOADS = Path("~/.cache/tddfa_ros/downloads")
OUTER_EYE_DISTANCE_M = (0.06, 0.13)
_OUTER_EYE_CORNERS = (36, 45)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show the model sets that can be found, in search order")

    importing = actions.add_parser(
        "import", help="make a set from a folder with the files of the public 3DDFA_V2 release"
    )
    importing.add_argument("folder", type=Path, metavar="FOLDER", help="flat, or a checkout")
    default_out = str(model_set.USER_FOLDER / SET_NAME)
    _add_set_arguments(importing, default_out, "mb1 if it is there")

    fetching = actions.add_parser(
        "fetch", help="download public networks and make a set of them, after showing the licence"
    )
    fetching.add_argument(
        "name",
        nargs="?",
        choices=[SET_NAME, YUNET],
        default=SET_NAME,
        help=f"{SET_NAME}: the 3DDFA_V2 release; {YUNET}: a copy of a set (--base) that detects "
        "faces with YuNet; default: %(default)s",
    )
    _add_set_arguments(
        fetching, f"{default_out}, and of {YUNET} the base's name with _{YUNET} there", "mb1"
    )
    fetching.add_argument(
        "--base",
        default="",
        metavar="SET",
        help=f"of {YUNET}: the set that gives all but the detector; default: the default set",
    )
    fetching.add_argument("--yes", action="store_true", help="accept the licence, do not ask")
    fetching.add_argument(
        "--base-url",
        metavar="URL",
        help="a mirror that has the files at URL/<commit>/<path>; default: "
        f"{manifest.BASE_URL}, and of {YUNET} OpenCV's",
    )
    fetching.add_argument(
        "--downloads",
        type=Path,
        default=DOWNLOADS,
        metavar="DIR",
        help="where downloaded files stay; default: %(default)s",
    )

    verifying = actions.add_parser("verify", help="check files, checksums and content of sets")
    verifying.add_argument(
        "sets", nargs="*", metavar="SET", help="names or folders; all that can be found if none"
    )


def _add_set_arguments(
    parser: argparse.ArgumentParser, default_out: str, default_regressor: str
) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder of the new set; default: {default_out}",
    )
    parser.add_argument(
        "--regressor",
        choices=[*manifest.REGRESSORS, "both"],
        help="mb1: the more accurate; mb05: half as wide, faster; both: two sets, mb1 in DIR and "
        f"mb05 in DIR_mb05; default: {default_regressor}",
    )


def run(args: argparse.Namespace) -> int:
    """Run the action; 0, or 1 if a verified set is not in order."""
    actions = {
        "list": _list,
        "import": _import,
        "fetch": _fetch,
        "verify": _verify,
    }
    return actions[args.action](args)


def _say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- list ---------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    folders = model_set.available()
    for folder in folders:
        try:
            _say(_summary(folder))
        except ModelSetError as error:
            _say(f"{folder.name}: damaged: {error}")
    if not folders:
        looked = ", ".join(str(folder) for folder in model_set.search_folders())
        _say(f"no model set in {looked}; `python -m tddfa_ros models fetch` gets one")
    return 0


def _summary(folder: Path) -> str:
    description = model_set.read_description(folder)
    files = {name: record.size_bytes for name, record in description.files.items()}
    sizes = ", ".join(f"{name} {count / 1e6:.1f}" for name, count in files.items())
    regressor = description.regressor
    name = folder.name if folder.name == description.name else f"{folder.name} ({description.name})"
    return (
        f"{name}\n"
        f"  path     {folder}\n"
        f"  licence  {description.licence}\n"
        f"  size     {sum(files.values()) / 1e6:.1f} MB ({sizes})\n"
        f"  regressor  {regressor.shape_count} shape and {regressor.expression_count} expression "
        f"coefficients from {regressor.input_size} x {regressor.input_size} pixels"
    )


# --- import and fetch ---------------------------------------------------------------------------


def _import(args: argparse.Namespace) -> int:
    _make_sets(args.folder, _sets_of(args, args.regressor))
    return 0


def _out_of(args: argparse.Namespace, name: str) -> Path:
    return model_set.expanded(args.out or model_set.USER_FOLDER / name)


def _sets_of(args: argparse.Namespace, regressor: str | None) -> dict[Path, str | None]:
    """Folders of the sets to be made, each with its regressor; no other files are in the way."""
    out = _out_of(args, SET_NAME).resolve()  # "." has no name of its own
    sets = {out: regressor}
    if regressor == "both":
        sets = {out: "mb1", out.with_name(out.name + "_mb05"): "mb05"}
    for path in sets:
        check_replaceable(path)
    return sets


def _make_sets(folder: Path, sets: dict[Path, str | None]) -> None:
    from tddfa_ros.core.release.convert import import_release  # loads onnx, which takes a while

    for path, name in sets.items():
        made = import_release(folder, path, regressor=name, progress=_say)
        _say_made(made)


def _say_made(made: model_set.ModelSet) -> None:
    known = [found.resolve() for found in model_set.available()]
    handle = made.name if made.path.resolve() in known else made.path
    _say(f"model set {made.name} is in {made.path}; use it with --model-set {handle}")


def _fetch(args: argparse.Namespace) -> int:
    if args.name == YUNET:
        return _fetch_yunet(args)
    regressors = [args.regressor or "mb1"]
    if regressors == ["both"]:
        regressors = list(manifest.REGRESSORS)
    files = (*manifest.COMMON_FILES, *(manifest.REGRESSORS[name] for name in regressors))
    sets = _sets_of(args, args.regressor or regressors[0])
    connection = Connection(base_url=args.base_url or manifest.BASE_URL)
    folder = _download(args, files, connection, manifest.LICENCE_TEXT)
    _make_sets(folder, sets)
    return 0


def _fetch_yunet(args: argparse.Namespace) -> int:
    from tddfa_ros.core.release import yunet  # loads onnx, which takes a while

    if args.regressor:
        raise DownloadError(f"--regressor {args.regressor}: {YUNET} takes that of its --base set")
    base = model_set.find(args.base)
    out = _out_of(args, f"{base.resolve().name}_{YUNET}")
    check_replaceable(out)
    connection = Connection(base_url=args.base_url or yunet.BASE_URL, commit=yunet.COMMIT)
    folder = _download(args, (yunet.FILE,), connection, yunet.LICENCE_TEXT)
    made = yunet.with_yunet(base, folder / yunet.FILE.repository_path, out)
    _say_made(made)
    return 0


def _download(
    args: argparse.Namespace,
    files: Sequence[manifest.ReleaseFile],
    connection: Connection,
    licence_text: str,
) -> Path:
    """Show the licence, ask, and download; returns the folder of the files."""
    _say(licence_text)
    if not (args.yes or _confirmed("Download these files and accept this? [y/N] ")):
        raise DownloadError("nothing was downloaded: the licence was not accepted (see --yes)")
    folder = model_set.expanded(args.downloads) / connection.commit[:12]
    with _progress_bars() as progress:
        fetch_release(
            folder,
            files,
            connection=connection,
            progress=progress,
            on_wait=lambda: _say("another process is downloading these files; waiting for it"),
        )
    return folder


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stdout.write(question)
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class _ProgressBars:
    """One bar a file."""

    def __init__(self) -> None:
        self.name = ""
        self.bar: tqdm.tqdm | None = None

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        if name != self.name or self.bar is None:
            self.close()
            self.name = name
            self.bar = tqdm.tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1000)
        self.bar.total = total_bytes
        self.bar.update(done_bytes - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@contextmanager
def _progress_bars() -> Iterator[_ProgressBars]:
    bars = _ProgressBars()
    try:
        yield bars
    finally:
        bars.close()


# --- verify -------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> int:
    folders = [model_set.find(name) for name in args.sets] or model_set.available()
    if not folders:
        model_set.find()  # raises, and says where was looked and what to do
    bad = 0
    for folder in folders:
        try:
            check_set(folder)
            _say(f"{folder}: in order")
        except TddfaError as error:
            bad += 1
            _say(f"{folder}: NOT in order: {error}")
    return 1 if bad else 0


def check_set(folder: Path) -> None:
    """Check a set's files, run its networks once, and look whether its mean face is one.

    Raises
    ------
    TddfaError
    """
    from tddfa_ros.core.detect import Detector
    from tddfa_ros.core.morphable import MorphableModel
    from tddfa_ros.core.regress import Regressor

    loaded = model_set.load(folder)
    image = np.full((240, 320, 3), 127, np.uint8)
    Detector(loaded, threads=1).detect(image)
    # Two regions: a network that was exported for one gives one fit.
    rois = np.array([[100, 60, 220, 180], [40, 60, 160, 180]], np.float32)
    fits, _ = Regressor(loaded, threads=1).regress(image, rois)
    if not all(fits):
        raise ModelSetError(f"{loaded.regressor_path}: its parameters are not finite")
    model = MorphableModel(loaded.face_model)
    mean = model.model_landmarks(np.zeros(model.shape_count), np.zeros(model.expression_count))
    left, right = mean[list(_OUTER_EYE_CORNERS)]
    distance_m = float(np.linalg.norm(left - right)) * loaded.face_model.metres_per_unit
    low, high = OUTER_EYE_DISTANCE_M
    if not low <= distance_m <= high:
        raise ModelSetError(
            f"{folder}: {distance_m:.3g} m between the outer corners of the eyes; a face has "
            f"{low} to {high}. Is metres_per_unit right?"
        )
