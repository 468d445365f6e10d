"""Dense reconstruction of linear face models, on one thread, at the speed of memory.

A vertex is ``camera[:, :3] @ (mean + shape_basis @ a + expression_basis @ b) + camera[:, 3]``.
:class:`PackedFaceModel` keeps the bases as 16-bit fixed point with one scale a component, which
halves what must be read for each face; the error stays below 1/65,000 of the largest displacement
of each component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tddfa_native import _reconstruct_cy as _cy

# One less than int16 holds: the upper of two values is rounded with the lower as its fraction.
_LARGEST = 32766
_UPPER = 65536


def kernel_names() -> tuple[str, ...]:
    """Names of the kernels that this processor can run, fastest first; the last is portable."""
    return _cy.kernel_names()


@dataclass(frozen=True)
class HeldShape:
    """Mean plus the displacement of fixed shape coefficients, packed; immutable.

    Attributes
    ----------
    shape : (s,) float32, the coefficients
    packed : float32, in the layout of the kernels
    """

    shape: np.ndarray
    packed: np.ndarray


class PackedFaceModel:
    """A face model in the layout of the kernels. Immutable, so threads may share it.

    Parameters
    ----------
    mean : (n, 3) float32, model units; n >= 1
    shape_basis : (s, n, 3) float32, displacement by unit coefficient; s may be 0
    expression_basis : (e, n, 3) float32; e may be 0
    kernel : one of :func:`kernel_names`; the fastest by default

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, or a kernel unknown here.
    """

    def __init__(
        self,
        mean: np.ndarray,
        shape_basis: np.ndarray,
        expression_basis: np.ndarray,
        *,
        kernel: str | None = None,
    ) -> None:
        mean = np.asarray(mean, np.float32)
        if mean.ndim != 2 or mean.shape[1] != 3 or len(mean) == 0:
            raise ValueError(f"mean has shape {mean.shape}; expected (n, 3) with n >= 1")
        names = kernel_names()
        if kernel is not None and kernel not in names:
            raise ValueError(f"kernel {kernel!r} is not one of {', '.join(names)}")
        self.vertex_count = len(mean)
        self._kernel = 0 if kernel is None else names.index(kernel)
        self._mean = _pack_mean(_finite("mean", mean))
        self._shape_basis, self._shape_scale = self._quantise("shape_basis", shape_basis)
        self._expression_basis, self._expression_scale = self._quantise(
            "expression_basis", expression_basis
        )

    @property
    def shape_count(self) -> int:
        """Number of shape components."""
        return len(self._shape_scale)

    @property
    def expression_count(self) -> int:
        """Number of expression components."""
        return len(self._expression_scale)

    def _quantise(self, name: str, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        basis = np.asarray(basis, np.float32)
        if basis.ndim != 3 or basis.shape[1:] != (self.vertex_count, 3):
            raise ValueError(
                f"{name} has shape {basis.shape}; expected (components, {self.vertex_count}, 3)"
            )
        _finite(name, basis)
        largest = np.abs(basis).max(axis=(1, 2), initial=0.0)
        scale = (largest / _LARGEST).astype(np.float32)
        divisor = np.where(scale > 0, scale, 1).astype(np.float32)
        packed = _pack_pairs(basis, divisor)
        return packed, scale / np.float32(_UPPER)

    def hold(self, shape: np.ndarray) -> HeldShape:
        """Apply shape coefficients, (s,), once for many reconstructions."""
        shape = _coefficients("shape", shape, self.shape_count).copy()
        packed = np.empty_like(self._mean)
        _cy.hold(
            self._kernel,
            self._mean,
            self._shape_basis,
            shape * self._shape_scale,
            self.vertex_count,
            packed,
        )
        shape.flags.writeable = packed.flags.writeable = False
        return HeldShape(shape, packed)

    def reconstruct(
        self,
        camera: np.ndarray,
        shape: np.ndarray,
        expression: np.ndarray,
        *,
        held: HeldShape | None = None,
        z_from_zero: bool = False,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, float]:
        """Vertices of one face.

        Parameters
        ----------
        camera : (3, 4), from model units to the coordinates of the result
        shape : (s,) coefficients; not looked at if `held` is given
        expression : (e,) coefficients
        held : from :meth:`hold`: use these shape coefficients, at a fraction of the time
        z_from_zero : subtract the least z from every z
        out : (n, 3) float32, C-contiguous, to be filled and returned; a new array by default

        Returns
        -------
        vertices : (n, 3) float32
        min_z : least z before any subtraction

        Raises
        ------
        ValueError
            Wrong shapes, or an `out` of another type.
        """
        camera = np.ascontiguousarray(camera, np.float32)
        if camera.shape != (3, 4):
            raise ValueError(f"camera has shape {camera.shape}; expected (3, 4)")
        out = self._output(out, (self.vertex_count, 3))
        _, min_z = self._run(
            camera[None],
            None if held is not None else [shape],
            [expression],
            None if held is None else [held],
            out[None],
            z_from_zero,
        )
        return out, float(min_z[0])

    def reconstruct_batch(
        self,
        cameras: np.ndarray,
        shapes: Sequence[np.ndarray] | np.ndarray,
        expressions: Sequence[np.ndarray] | np.ndarray,
        *,
        z_from_zero: bool = False,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vertices of f faces, reading the model once for all of them.

        Parameters
        ----------
        cameras : (f, 3, 4)
        shapes : (f, s)
        expressions : (f, e)
        z_from_zero : subtract from every z the least of its face
        out : (f, n, 3) float32, C-contiguous, to be filled and returned

        Returns
        -------
        vertices : (f, n, 3) float32
        min_z : (f,) float32, least z of each face before any subtraction

        Raises
        ------
        ValueError
            Wrong shapes, or an `out` of another type.
        """
        cameras = np.ascontiguousarray(cameras, np.float32)
        if cameras.ndim != 3 or cameras.shape[1:] != (3, 4):
            raise ValueError(f"cameras have shape {cameras.shape}; expected (faces, 3, 4)")
        if not len(cameras) == len(shapes) == len(expressions):
            raise ValueError(
                f"{len(cameras)} cameras, {len(shapes)} shapes and {len(expressions)} expressions; "
                "expected one of each for a face"
            )
        out = self._output(out, (len(cameras), self.vertex_count, 3))
        return self._run(cameras, shapes, expressions, None, out, z_from_zero)

    def _run(self, cameras, shapes, expressions, held, out, z_from_zero):
        count = len(cameras)
        min_z = np.empty(count, np.float32)
        if count == 0:
            return out, min_z
        scaled_expressions = _scaled("expression", expressions, self._expression_scale)
        if held is None:
            bases = [self._mean] * count
            scaled_shapes = _scaled("shape", shapes, self._shape_scale)
        else:
            bases = [h.packed for h in held]
            scaled_shapes = scaled_expressions
            for base in bases:
                if base.shape != self._mean.shape:
                    raise ValueError("the held shape comes from another face model")
        _cy.reconstruct(
            self._kernel,
            bases,
            self._shape_basis,
            self._expression_basis,
            scaled_shapes,
            scaled_expressions,
            cameras,
            out,
            min_z,
            held is not None,
            z_from_zero,
        )
        return out, min_z

    @staticmethod
    def _output(out: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
        if out is None:
            return np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32 or not out.flags.carray:
            raise ValueError(
                f"out is {out.dtype} {out.shape}; expected writable C-contiguous float32 {shape}"
            )
        return out


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    return values


def _coefficients(name: str, values: np.ndarray, count: int) -> np.ndarray:
    values = np.ascontiguousarray(values, np.float32)
    if values.shape != (count,):
        raise ValueError(f"{name} has shape {values.shape}; the model expects ({count},)")
    return values


def _scaled(name: str, rows: Sequence[np.ndarray], scale: np.ndarray) -> np.ndarray:
    scaled = np.empty((len(rows), len(scale)), np.float32)
    for row, values in zip(scaled, rows, strict=True):
        np.multiply(_coefficients(name, values, len(scale)), scale, out=row)
    return scaled


def _blocks(values: np.ndarray) -> np.ndarray:
    """(n, 3) -> (blocks, 3, BLOCK), the last vertex repeated."""
    blocks = -(-len(values) // _cy.BLOCK)
    filled = values[np.minimum(np.arange(blocks * _cy.BLOCK), len(values) - 1)]
    return filled.reshape(blocks, _cy.BLOCK, 3).transpose(0, 2, 1)


def _pack_mean(mean: np.ndarray) -> np.ndarray:
    blocks = _blocks(mean)
    packed = _aligned_empty(blocks.shape, blocks.dtype)
    packed[:] = blocks
    packed.flags.writeable = False
    return packed


def _pack_pairs(basis: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """(c, n, 3) -> (blocks, c, 3, BLOCK / 2) words of two vertices, as the kernels explain."""
    half = _cy.BLOCK // 2
    blocks = -(-basis.shape[1] // _cy.BLOCK)
    packed = _aligned_empty((blocks, len(basis), 3, half), np.dtype(np.int32))
    for component, (values, step) in enumerate(zip(basis, divisor, strict=True)):
        steps = _blocks(values / step)
        lower = np.rint(steps[..., half:]).astype(np.int32) & (_UPPER - 1)
        upper = np.rint(steps[..., :half] - lower / float(_UPPER)).astype(np.int32)
        packed[:, component] = upper * _UPPER + lower
    packed.flags.writeable = False
    return packed


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    line = 64
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + size].view(dtype).reshape(shape)
