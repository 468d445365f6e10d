"""YAML from outside: plain data, or one error whatever is wrong with it."""

from __future__ import annotations

from typing import Any

import yaml

from tddfa_ros.core.array_file import short
from tddfa_ros.core.errors import UnsafeFileError

# PyYAML lets pass what its constructors stumble over, such as KeyError for `!!bool maybe`.
_ERRORS = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Loader(yaml.SafeLoader):
    """Refuses merge keys: what they name is copied, so that nested ones grow exponentially."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "a merge key (<<) is not admitted; write its entries out"
                )
        super().flatten_mapping(node)


def read_yaml(data: bytes) -> Any:
    """Decode a YAML document; what it holds is bounded by its length, and shared where it says so.

    Raises
    ------
    UnsafeFileError
        It is not YAML, or uses tags of a program's own or merge keys.
    """
    try:
        return yaml.load(data, _Loader)
    except _ERRORS as error:
        raise UnsafeFileError(f"not YAML: {short(' '.join(str(error).split()))}") from error
