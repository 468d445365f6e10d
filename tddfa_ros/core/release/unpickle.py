"""Reader of pickles that admits plain data and numpy arrays, and executes nothing.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever
the program names; this one is written out below, knows only the instructions that plain data
needs, and where the program names a class or function it looks the name up in a table of records
of ours. The ``pickle`` module is not used (``pickletools`` decodes instructions; it does not run
them), so there is nothing here that could import or call on a file's behalf.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from tddfa_ros.core.array_file import array_from_bytes, short, shown
from tddfa_ros.core.errors import UnsafeFileError

MAX_INSTRUCTIONS = 1_000_000
MAX_DEPTH = 32
_MARK = object()
_DTYPE = re.compile(r"(f[248]|[iu][1248]|b1)")

_NUMBER_CODES = {
    "BININT",
    "BININT1",
    "BININT2",
    "INT",
    "LONG",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "FLOAT",
}
_TEXT_CODES = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"}
_BYTES_CODES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_VALUE_CODES = _NUMBER_CODES | _TEXT_CODES | _BYTES_CODES
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT_CODES = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})
_GET_CODES = frozenset({"BINGET", "LONG_BINGET", "GET"})
_PLAIN = (type(None), bool, int, float, str, bytes)


class Name:
    """A class or function that a pickle mentions: only its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Pending:
    """A value under construction: a pickle may refer to an array before it has filled it."""

    def build(self, state: Any) -> None:
        """Take the state that the pickle gives after construction."""
        raise UnsafeFileError("state for a value that takes none")

    def finish(self) -> Any:
        """Return the plain value."""
        raise NotImplementedError


class _Dtype(Pending):
    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise UnsafeFileError(f"array of dtype {shown(code)}; only plain numbers are admitted")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        simple = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None)
        if not simple or state[1] not in ("<", ">", "|", "="):
            raise UnsafeFileError(f"dtype state {shown(state)} is not that of plain numbers")
        self.dtype = self.dtype.newbyteorder(state[1])

    def finish(self) -> Any:
        raise UnsafeFileError("a dtype where data is expected")


class _Array(Pending):
    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafeFileError("array state is not (version, shape, dtype, order, data)")
        _, shape, dtype, fortran_order, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise UnsafeFileError("array of objects; only arrays of plain numbers are admitted")
        if not isinstance(shape, tuple) or not isinstance(fortran_order, bool):
            raise UnsafeFileError(
                f"array of shape {shown(shape)} and order {shown(fortran_order)}; expected a tuple "
                "and a bool"
            )
        self.array = array_from_bytes(data, dtype.dtype, shape, fortran_order, "array")

    def finish(self) -> np.ndarray:
        if self.array is None:
            raise UnsafeFileError("array without data")
        return self.array


def _reconstruct(*arguments: Any) -> _Array:
    kind = arguments[0] if arguments else None
    if not isinstance(kind, Name) or kind.name != "numpy.ndarray":
        raise UnsafeFileError("array of a class other than numpy.ndarray")
    return _Array()


def _dtype(*arguments: Any) -> _Dtype:
    return _Dtype(arguments[0] if arguments else None)


Constructor = Callable[..., Any]

NUMPY_CONSTRUCTORS: dict[str, Constructor | None] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,
}
"""Every name that an array pickle may mention -> our own maker of the value, None: never called."""


def read_pickle(data: bytes, source: str) -> Any:
    """Read a pickle of numpy arrays, dicts, lists, tuples and plain scalars.

    Parameters
    ----------
    data : the whole file
    source : name for messages

    Raises
    ------
    UnsafeFileError
        It is damaged or mentions anything else. Nothing that it asks for has been done.
    """
    stream = io.BytesIO(data)
    value = read_one(stream, source, NUMPY_CONSTRUCTORS)
    if stream.tell() != len(data):
        raise UnsafeFileError(f"{source}: {len(data) - stream.tell()} bytes after its end")
    return value


def read_one(
    stream: io.BytesIO,
    source: str,
    constructors: dict[str, Constructor | None],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle from a stream and leave the stream behind its end.

    Parameters
    ----------
    stream : of the file in memory
    source : name for messages
    constructors : admitted names -> our own maker of the value
    persistent : our own maker of values from persistent ids, or None: refused

    Raises
    ------
    UnsafeFileError
    """
    machine = _Machine(constructors, persistent, len(stream.getbuffer()))
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise UnsafeFileError(f"more than {MAX_INSTRUCTIONS} instructions")
            machine.step(code.name, argument)
        return _finished(machine.pop(), {}, 0)
    except UnsafeFileError as error:
        raise UnsafeFileError(
            f"{source}: refused: {short(str(error))}. Nothing of it was executed."
        ) from error
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise UnsafeFileError(
            f"{source}: not a pickle, or a damaged one: {short(str(error))}"
        ) from error


class _Machine:
    """The stack machine, reduced to the instructions that plain data needs."""

    def __init__(
        self,
        constructors: dict[str, Constructor | None],
        persistent: Callable[[Any], Any] | None,
        file_bytes: int,
    ) -> None:
        self.constructors = constructors
        self.persistent = persistent
        self.file_bytes = file_bytes
        self.array_bytes = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, code: str, argument: Any) -> None:
        """Execute one instruction; those that are not listed here are refused."""
        if code in _VALUE_CODES:
            self.stack.append(argument)
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in _TUPLE_LENGTHS:
            items = [self.pop() for _ in range(_TUPLE_LENGTHS[code])]
            self.stack.append(tuple(reversed(items)))
        elif code in _PUT_CODES:
            self.memo[int(argument)] = self.top()
        elif code in _GET_CODES:
            self.get(int(argument))
        elif code in ("PROTO", "FRAME", "STOP"):
            pass
        else:
            action = _ACTIONS.get(code)
            if action is None:
                raise UnsafeFileError(f"instruction {code} is not one that plain data needs")
            action(self, argument)

    def pop(self) -> Any:
        value = self.stack.pop() if self.stack else _MARK
        if value is _MARK:
            raise UnsafeFileError("the stack underflows")
        return value

    def top(self, kind: type = object) -> Any:
        value = self.stack[-1] if self.stack else _MARK
        if value is _MARK or not isinstance(value, kind):
            raise UnsafeFileError(f"no {kind.__name__} where the next instruction needs one")
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise UnsafeFileError("the stack has no mark")

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise UnsafeFileError(f"memo {index} is empty")
        self.stack.append(self.memo[index])

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def name(self, name: str) -> None:
        if name not in self.constructors:
            raise UnsafeFileError(f"it asks for {name}")
        self.stack.append(Name(name))

    def global_name(self, argument: str) -> None:
        self.name(".".join(argument.split(" ", 1)))

    def stack_global(self, _: Any) -> None:
        attribute, module = self.pop(), self.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise UnsafeFileError("a name that is no text")
        self.name(f"{module}.{attribute}")

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        make = self.constructors[function.name] if isinstance(function, Name) else None
        if make is None or not isinstance(arguments, tuple):
            raise UnsafeFileError("a call of something that is not to be called")
        self.stack.append(make(*arguments))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.top(Pending)
        target.build(state)
        if isinstance(target, _Array) and target.array is not None:
            # Each array is a copy: many made from the same bytes would fill the memory.
            self.array_bytes += target.array.nbytes
            if self.array_bytes > self.file_bytes:
                raise UnsafeFileError(
                    f"its arrays take more than the {self.file_bytes} bytes of the file"
                )

    def persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise UnsafeFileError("a reference to data outside the file")
        self.stack.append(self.persistent(self.pop()))

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise UnsafeFileError("a key without a value")
        target = self.top()
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise UnsafeFileError(f"a key of type {type(key).__name__}")
            if isinstance(target, Dict):
                target.items[key] = value
            else:
                raise UnsafeFileError("items for something that is no dict")

    def set_items_to_mark(self, _: Any) -> None:
        self.set_items(self.pop_to_mark())

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append_to_mark(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.top(list).extend(items)

    def append(self, _: Any) -> None:
        item = self.pop()
        self.top(list).append(item)


class Dict(Pending):
    """A dict, or an OrderedDict, whose attributes are of no interest to us."""

    def __init__(self, *arguments: Any) -> None:
        if arguments:
            raise UnsafeFileError("an OrderedDict that is not made empty")
        self.items: dict[str | int, Any] = {}

    def build(self, state: Any) -> None:
        """Drop it: torch hangs version marks onto the dict of a network's weights."""


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: (machine.pop(), None)[1],
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append(Dict()),
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
    "SETITEMS": _Machine.set_items_to_mark,
    "SETITEM": _Machine.set_item,
    "APPENDS": _Machine.append_to_mark,
    "APPEND": _Machine.append,
}


def _finished(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Plain containers and arrays in place of those under construction.

    `done` holds each value once: shared parts stay shared, and a value within itself is found.
    """
    if type(value) in _PLAIN:
        return value
    if depth > MAX_DEPTH:
        raise UnsafeFileError(f"nested deeper than {MAX_DEPTH}")
    key = id(value)
    if key in done:
        if done[key] is _MARK:
            raise UnsafeFileError("a value that contains itself")
        return done[key]
    done[key] = _MARK
    if isinstance(value, Dict):
        result: Any = {k: _finished(v, done, depth + 1) for k, v in value.items.items()}
    elif type(value) in (list, tuple):
        result = type(value)(_finished(v, done, depth + 1) for v in value)
    elif isinstance(value, Pending):
        result = value.finish()
    else:
        _refuse(value)
    done[key] = result
    return result


def _refuse(value: Any) -> NoReturn:
    what = value.name if isinstance(value, Name) else type(value).__name__
    raise UnsafeFileError(f"it holds {what} where data is expected")
