"""Every setting once: default, description, range, and whether it may change while running.

The nodes declare their parameters from these records, the command line its options, and a test
holds the YAML files in ``config/`` against them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from tddfa_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Option:
    """What is known of one setting beside its default.

    Attributes
    ----------
    description : one sentence, with the unit
    minimum, maximum : inclusive range of a number, or None
    choices : the allowed values of a string, or empty
    several : whether several choices may be given, separated by commas
    runtime : whether it may change while the pipeline runs
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    several: bool = False
    runtime: bool = False


def option(default: Any, description: str, **about: Any) -> Any:
    """Dataclass field with an :class:`Option` in its metadata."""
    return field(default=default, metadata={"option": Option(description, **about)})


def options(config_class: type) -> dict[str, tuple[Any, Option]]:
    """Name -> (default, Option) of every setting of a config class, in order of declaration."""
    return {f.name: (f.default, f.metadata["option"]) for f in dataclasses.fields(config_class)}


def check_value(name: str, value: Any, default: Any, about: Option) -> Any:
    """Return `value` as the type of `default`.

    Raises
    ------
    ConfigError
        Wrong type, outside the range, or not among the choices.
    """
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{name}={value!r}: expected {kind.__name__}, got {type(value).__name__}")
    if kind is float and math.isnan(value):
        raise ConfigError(f"{name}={value!r}: not a number")
    if about.minimum is not None and value < about.minimum:
        raise ConfigError(f"{name}={value!r}: must be at least {about.minimum:g}")
    if about.maximum is not None and value > about.maximum:
        raise ConfigError(f"{name}={value!r}: must be at most {about.maximum:g}")
    if about.choices:
        for entry in value.split(",") if about.several else [value]:
            if entry not in about.choices:
                raise ConfigError(
                    f"{name}={value!r}: {entry!r} is not one of {', '.join(about.choices)}"
                )
    return value


class CheckedConfig:
    """Base of the config dataclasses: checks every value against its :class:`Option`."""

    def __post_init__(self) -> None:
        for name, (default, about) in options(type(self)).items():
            object.__setattr__(self, name, check_value(name, getattr(self, name), default, about))


@dataclass(frozen=True)
class PipelineConfig(CheckedConfig):
    """Settings of detection, fitting, tracking and smoothing."""

    model_set: str = option(
        "",
        "Model set: a folder or a name; empty takes the first found, 'embedded' before 'tddfa_v2'.",
    )
    max_faces: int = option(
        10,
        "Most faces followed at once; of new ones the largest come first.",
        minimum=1,
        maximum=100,
        runtime=True,
    )
    detection_threshold: float = option(
        0.0,
        "Detector score from which a face begins, 0 to 1; from 0.6 times that on if the regressor "
        "is as good as certain. 0 takes the model set's own.",
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    detection_interval_s: float = option(
        0.4,
        "Seconds of image time between searches for new faces while others are tracked; 0 "
        "searches in every frame. A face that three searches in a row miss is lost: with 0, "
        "within three frames.",
        minimum=0.0,
        maximum=60.0,
        runtime=True,
    )
    small_faces: bool = option(
        False,
        "Whether searches also look at parts of the images, for faces from 20 pixels on: each "
        "takes ten times as long.",
        runtime=True,
    )
    confidence_threshold: float = option(
        0.5,
        "A track below this regressor confidence is lost; a face begins from 99 times its odds on, "
        "0.99 for 0.5. No effect if the model set has none.",
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    mirrored_fits: str = option(
        "always",
        "Which faces are also fitted in their mirror image, for the mean of both, which errs and "
        "trembles less at twice the regressor's time: always; stills; never. No effect if the face "
        "model is not symmetric.",
        choices=("always", "stills", "never"),
        runtime=True,
    )
    lost_timeout_s: float = option(
        2.0,
        "Seconds of image time for which a lost face can return under its old id.",
        minimum=0.0,
        maximum=60.0,
        runtime=True,
    )
    hold_shape_frames: int = option(
        0,
        "Frames after which a track's shape coefficients are held at their mean, for a steadier "
        "and cheaper mesh; 0 never holds them.",
        minimum=0,
        maximum=10000,
        runtime=True,
    )
    smoothing: str = option(
        "one-euro",
        "Smoothing of faces: none; one-euro (no delay); window (centred mean, delayed).",
        choices=("none", "one-euro", "window"),
        runtime=True,
    )
    window_before: int = option(
        1, "Frames before the present one in the centred mean.", minimum=0, maximum=30
    )
    window_after: int = option(
        1,
        "Frames after the present one in the centred mean: its delay.",
        minimum=0,
        maximum=30,
    )
    one_euro_min_cutoff_hz: float = option(
        1.0,
        "One Euro filter: cutoff of a face at rest, hertz; lower is steadier.",
        minimum=0.01,
        maximum=100.0,
        runtime=True,
    )
    one_euro_beta: float = option(
        30.0,
        "One Euro filter: hertz of cutoff added per face size a second; higher lags less.",
        minimum=0.0,
        maximum=1000.0,
        runtime=True,
    )
    detector_threads: int = option(
        2, "Threads of the detector's network; 0 lets the runtime choose.", minimum=0, maximum=64
    )
    regressor_threads: int = option(
        2,
        "Threads of the regressor's network where three faces or more are followed; fewer are "
        "computed on one. 0 lets the runtime choose.",
        minimum=0,
        maximum=64,
    )


@dataclass(frozen=True)
class MetricConfig(CheckedConfig):
    """Settings of metric poses, for calibrated cameras."""

    head_width_m: float = option(
        0.0,
        "True breadth of the face at the ears, metres, which sets its distance; 0 takes the face "
        "model's own size.",
        minimum=0.0,
        maximum=0.5,
        runtime=True,
    )
    image_rectified: bool = option(
        False,
        "Whether the images are rectified: P of the calibration holds then, else K and D.",
        runtime=True,
    )
    pose_min_cutoff_hz: float = option(
        2.0,
        "One Euro filter of the metric pose: cutoff of a head at rest, hertz; lower is steadier.",
        minimum=0.01,
        maximum=100.0,
        runtime=True,
    )
    pose_beta: float = option(
        20.0,
        "One Euro filter of the metric pose: hertz of cutoff added per metre a second, seen from "
        "one metre away; higher lags less.",
        minimum=0.0,
        maximum=1000.0,
        runtime=True,
    )
