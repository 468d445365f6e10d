"""ONNX networks, run by ONNX Runtime on the CPU; the only module that knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message

from tddfa_ros.core.array_file import read_bounded
from tddfa_ros.core.errors import ModelSetError, UnsafeFileError

# Read as it is loaded. Else it keeps an id of the device and a database of what it was used for in
# the home folder, and sends them to its maker. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

MAX_NETWORK_BYTES = 256 * 1024 * 1024
# Longer than the gaps between most operators of a small network, and short beside the time slice
# that a thread takes from whoever else needs the core.
SPIN_US = 100

_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *(
        error
        for error in vars(runtime_errors).values()
        if isinstance(error, type) and issubclass(error, Exception)
    ),
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
)
_DTYPES = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(float)": np.dtype(np.float32),
}


@dataclass(frozen=True)
class TensorSpec:
    """What an input or output of a network must be.

    Attributes
    ----------
    dtype : numpy's name of it
    shape : sizes; None where an input may have any, or an output has one that is not asked about
    """

    dtype: str
    shape: tuple[int | None, ...]


DETECTOR_INPUTS = {"image": TensorSpec("uint8", (None, None, 3))}
DETECTOR_OUTPUTS = {
    "boxes_xyxy": TensorSpec("float32", (None, 4)),
    "scores": TensorSpec("float32", (None,)),
}
"""What the detector of every model set takes and gives; docs/architecture.md says it in words."""


class OnnxSession:
    """A network that has been checked to have the inputs and outputs that it should.

    Parameters
    ----------
    path_or_bytes : the ONNX file or its content, all in one: external data is refused
    threads : that compute one run; 0 lets the runtime choose
    inputs, outputs : name -> what it must be; further outputs are not computed

    Raises
    ------
    ModelSetError
        Unreadable, too large, with external data, or other inputs or outputs than asked for.

    Notes
    -----
    Worker threads spin for a moment between the operators of a run, a fifth faster on two idle
    cores than if they slept, and sleep between runs: by default they would spin on and take a core
    from everybody else.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        *,
        threads: int,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
    ) -> None:
        if isinstance(path_or_bytes, bytes):
            self._source, content = f"network of {len(path_or_bytes)} bytes", path_or_bytes
        else:
            self._source = os.fspath(path_or_bytes)
            content = _read(Path(path_or_bytes))
        _refuse_external_data(content, self._source)
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                _options(threads),
                providers=["CPUExecutionProvider"],
                enable_fallback=False,
            )
            self._require(inputs, self._session.get_inputs(), "input")
            self._require(outputs, self._session.get_outputs(), "output")
        except _RUNTIME_ERRORS as error:
            raise ModelSetError(
                f"{self._source}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
                f"{_one_line(error)}. Import or install the model set anew."
            ) from error
        self._outputs = dict(outputs)

    def run(
        self, inputs: Mapping[str, np.ndarray], *, rows: int | None = None
    ) -> tuple[np.ndarray, ...]:
        """Run the network.

        Parameters
        ----------
        inputs : name -> array, as said at construction
        rows : that each output must have; None: any number, but all the same

        Returns
        -------
        the outputs, in the order in which they were asked for at construction

        Raises
        ------
        ModelSetError
            The network fails on these inputs, or its outputs are not of the shapes that it states.
        """
        try:
            found = tuple(self._session.run(list(self._outputs), inputs))
        except _RUNTIME_ERRORS as error:
            shapes = {name: (str(a.dtype), a.shape) for name, a in inputs.items()}
            raise ModelSetError(
                f"{self._source}: failed on {shapes}: {_one_line(error)}. "
                "Import or install the model set anew."
            ) from error
        self._require_shapes(found, rows)
        return found

    def _require_shapes(self, found: tuple[np.ndarray, ...], rows: int | None) -> None:
        """Raise where outputs are of other shapes than stated: the runtime does not mind."""
        for (name, spec), values in zip(self._outputs.items(), found, strict=True):
            sizes = (rows, *spec.shape[1:])
            if values.ndim != len(sizes) or any(
                wanted not in (None, has) for wanted, has in zip(sizes, values.shape, strict=True)
            ):
                raise ModelSetError(
                    f"{self._source}: output {name!r} has shape {list(values.shape)}, expected "
                    f"{list(sizes)}: the network is damaged; import or install the model set anew"
                )
            rows = len(values)

    def _require(self, wanted: Mapping[str, TensorSpec], found: list[Any], what: str) -> None:
        by_name = {tensor.name: tensor for tensor in found}
        unknown = sorted(set(by_name) - set(wanted)) if what == "input" else []
        for name in [*wanted, *unknown]:
            tensor, spec = by_name.get(name), wanted.get(name)
            if (
                tensor is not None
                and spec is not None
                and _fits(tensor, spec, free=what == "input")
            ):
                continue
            expected = f"{spec.dtype} {list(spec.shape)}" if spec else "no such one"
            has = f"{tensor.type} {tensor.shape}" if tensor is not None else "none"
            raise ModelSetError(
                f"{self._source}: {what} {name!r} is {has}, expected {expected}: "
                "the network is not one for this version; import or install the model set anew"
            )


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what is fatal is raised as well
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    return options


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_NETWORK_BYTES)
    except (OSError, UnsafeFileError) as error:
        raise ModelSetError(f"{path}: {error}. Import or install the model set anew.") from error


def _refuse_external_data(content: bytes, source: str) -> None:
    """Raise if a tensor names another file as its data: it could be any that the user can read."""
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelSetError(
            f"{source}: not an ONNX file: {_one_line(error)}. Import or install the model set anew."
        ) from error
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
        ):
            raise ModelSetError(
                f"{source}: the data of {message.name!r} is in another file; that is refused. "
                "A network of a model set is one file."
            )


def _messages(root: Message) -> Iterator[Message]:
    """All messages of a tree: tensors also hide in attributes, subgraphs and functions."""
    left = [root]
    while left:
        message = left.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                left.extend([value] if isinstance(value, Message) else value)


def _fits(tensor: Any, spec: TensorSpec, *, free: bool) -> bool:
    """Tell whether a tensor is as asked for; with `free`, open sizes have to be open in it too."""
    if _DTYPES.get(tensor.type) != np.dtype(spec.dtype) or len(tensor.shape) != len(spec.shape):
        return False
    # A size that the file leaves open is a name or None.
    sizes = zip(tensor.shape, spec.shape, strict=True)
    return all(
        not (free and isinstance(has, int)) if wanted is None else has == wanted
        for has, wanted in sizes
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
