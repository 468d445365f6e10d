"""Command-line options made from the settings of a config class, so that none is stated twice."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tddfa_ros.core.config import Option, PipelineConfig, check_value, options
from tddfa_ros.core.errors import ConfigError

FLAGS = {"smoothing": "--smooth"}
"""Settings whose flag is not simply their name."""


def names_in(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once, in their order."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def names_among(allowed: Collection[str], least: int = 0) -> Callable[[str], tuple[str, ...]]:
    """Make a reader of options: :func:`names_in`, at least so many, of those `allowed`."""

    def read(text: str) -> tuple[str, ...]:
        names = names_in(text)
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(allowed)}")
        if len(names) < least:
            raise argparse.ArgumentTypeError(f"name at least {least} of {', '.join(allowed)}")
        return names

    return read


def above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Make a reader of options: a finite number of that kind that is greater than 0."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a {whole}number above 0")
        return value

    return read


def flag(name: str) -> str:
    """Command-line flag of a setting."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def _reader(name: str, default: Any, about: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return check_value(name, type(default)(text), default, about)
        except (ValueError, ConfigError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def add_config_arguments(
    parser: argparse.ArgumentParser,
    names: Iterable[str] | None = None,
    config_class: type = PipelineConfig,
    title: str = "settings of the pipeline",
) -> None:
    """Add one flag for each setting of `config_class`, or for those in `names`."""
    known = options(config_class)
    group = parser.add_argument_group(title)
    for name in known if names is None else names:
        default, about = known[name]
        shown = repr(default) if default == "" else default
        help_text = f"{about.description} (default {shown})".replace("%", "%%")
        if isinstance(default, bool):
            switch = argparse.BooleanOptionalAction
            group.add_argument(
                flag(name), dest=name, action=switch, default=default, help=help_text
            )
            continue
        group.add_argument(
            flag(name),
            dest=name,
            default=default,
            type=_reader(name, default, about),
            metavar="|".join(about.choices) or name.rsplit("_", 1)[-1].upper(),
            help=help_text,
        )


def config_from(args: argparse.Namespace, config_class: type = PipelineConfig) -> Any:
    """Config of the parsed flags; a setting without a flag keeps its default."""
    given = {name: getattr(args, name) for name in options(config_class) if hasattr(args, name)}
    return config_class(**given)
