"""ROS parameters declared from config dataclasses, checked, and applied while running."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from tddfa_ros.core.config import Option, check_value, options
from tddfa_ros.core.errors import ConfigError, TddfaError

UNBOUNDED = 1e18
"""End of a range that has only its other end."""
_GIVEN_AS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a decimal point, such as 1.0",
    str: "a text, in quotes if it looks like a number ('1' in a file, \"'1'\" in a shell)",
}


class ConfigParameters:
    """The settings of some config classes as parameters of a node.

    Parameters
    ----------
    node : on which they are declared at once; values given at start are checked
    config_classes : dataclasses made of :func:`tddfa_ros.core.config.option` fields
    is_running : whether only run-time settings may change now
    fixed : says in the descriptions when the other settings take effect
    remedy : follows ``NAME cannot change`` where one of those is refused
    apply : called with the new configs, one for each class, before a change is accepted; may raise
        :class:`TddfaError` to refuse it
    dynamic : names of strings for which a number does as well (a camera's)

    Raises
    ------
    ConfigError
        A value given at start is refused.
    """

    def __init__(
        self,
        node: Node,
        config_classes: Sequence[type],
        *,
        is_running: Callable[[], bool],
        fixed: str,
        remedy: str,
        apply: Callable[[Sequence[Any]], None],
        dynamic: Sequence[str] = (),
    ) -> None:
        self._node = node
        self._classes = tuple(config_classes)
        self._is_running = is_running
        self._fixed = fixed
        self._remedy = remedy
        self._apply = apply
        self._dynamic = frozenset(dynamic)
        self._options: dict[str, tuple[Any, Option]] = {}
        for config_class in self._classes:
            self._options.update(options(config_class))
        self._values: dict[str, Any] = {}
        for name, (default, about) in self._options.items():
            self._values[name] = self._declare(name, default, about)
        node.add_on_set_parameters_callback(self._on_set)

    def _declare(self, name: str, default: Any, about: Option) -> Any:
        described = descriptor(name, default, about, self._fixed)
        described.dynamic_typing = name in self._dynamic
        try:
            declared = self._node.declare_parameter(name, default, described)
        except InvalidParameterTypeException as error:
            kind = type(default)
            raise ConfigError(f"parameter {name}: {error}; give {_GIVEN_AS[kind]}") from error
        except InvalidParameterValueException as error:
            raise ConfigError(f"parameter {name}: {error}") from error
        return self._checked(declared)

    def _checked(self, parameter: Parameter) -> Any:
        default, about = self._options[parameter.name]
        value = str(parameter.value) if parameter.name in self._dynamic else parameter.value
        return check_value(parameter.name, value, default, about)

    def configs(self) -> list[Any]:
        """Return the present settings, one config for each class."""
        return self._build(self._values)

    def _build(self, values: dict[str, Any]) -> list[Any]:
        return [
            config_class(**{f.name: values[f.name] for f in dataclasses.fields(config_class)})
            for config_class in self._classes
        ]

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        values = dict(self._values)
        try:
            for parameter in parameters:
                if parameter.name not in self._options:
                    continue
                value = self._checked(parameter)
                about = self._options[parameter.name][1]
                if value != values[parameter.name] and not about.runtime and self._is_running():
                    reason = f"{parameter.name} cannot change {self._remedy}"
                    return SetParametersResult(successful=False, reason=reason)
                values[parameter.name] = value
            if values != self._values:
                self._apply(self._build(values))
        except TddfaError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        return SetParametersResult(successful=True)


def descriptor(name: str, default: Any, about: Option, fixed: str) -> ParameterDescriptor:
    """Describe a setting as ``ros2 param describe`` shows it.

    Parameters
    ----------
    name, default, about : of the setting
    fixed : sentence for one that cannot change at run time
    """
    described = ParameterDescriptor(name=name, description=about.description)
    if about.choices:
        listed = ", ".join(about.choices)
        described.additional_constraints = f"Of: {listed}."
    if not about.runtime:
        described.additional_constraints += f" {fixed}"
        described.additional_constraints = described.additional_constraints.strip()
    bounds = (about.minimum, about.maximum)
    if bounds != (None, None):
        low = -UNBOUNDED if about.minimum is None else about.minimum
        high = UNBOUNDED if about.maximum is None else about.maximum
        if isinstance(default, int):
            described.integer_range.append(IntegerRange(from_value=int(low), to_value=int(high)))
        else:
            span = FloatingPointRange(from_value=float(low), to_value=float(high))
            described.floating_point_range.append(span)
    return described
