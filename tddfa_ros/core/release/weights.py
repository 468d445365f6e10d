"""The weights of a network as its release stores them, taken apart and checked key by key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tddfa_ros.core.errors import ModelSetError

_BATCH_NORM_EPS = 1e-5
_REMEDY = "the file is not of the 3DDFA_V2 release, take it from there"


class Weights:
    """A state dict that is taken apart until none is left.

    Parameters
    ----------
    network : its name in messages
    state_dict : name -> array; a prefix ``module.``, left by training on several GPUs, is dropped

    Every method raises :class:`ModelSetError` for what is missing, unknown, of another shape or
    type, or not finite.
    """

    def __init__(self, network: str, state_dict: Mapping[str, np.ndarray]) -> None:
        self._network = network
        self._left = {name.removeprefix("module."): value for name, value in state_dict.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def rows(self, name: str) -> int:
        """Length of the first axis."""
        if name not in self._left or np.ndim(self._left[name]) == 0:
            raise ModelSetError(f"{self._network}: weight {name!r} is missing: {_REMEDY}")
        return len(self._left[name])

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Remove a weight and return it in float64."""
        if name not in self._left:
            raise ModelSetError(f"{self._network}: weight {name!r} is missing: {_REMEDY}")
        value = np.asarray(self._left.pop(name))
        if value.shape != shape or value.dtype.kind != "f":
            raise ModelSetError(
                f"{self._network}: weight {name!r} is {value.dtype} {value.shape}, expected "
                f"float {shape}: {_REMEDY}"
            )
        if not np.isfinite(value).all():
            raise ModelSetError(f"{self._network}: weight {name!r} is not finite: {_REMEDY}")
        return value.astype(np.float64)

    def folded(
        self, conv: str, batch_norm: str, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of a convolution without bias and the normalisation that follows it."""
        kernel = self.take(f"{conv}.weight", shape)
        gamma, beta, mean, variance = (
            self.take(f"{batch_norm}.{part}", shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self._left.pop(f"{batch_norm}.num_batches_tracked", None)
        if (variance < 0).any():
            raise ModelSetError(f"{self._network}: {batch_norm} has negative variance: {_REMEDY}")
        scale = gamma / np.sqrt(variance + _BATCH_NORM_EPS)
        return kernel * scale[:, None, None, None], beta - mean * scale

    def finish(self, unused: tuple[str, ...] = ()) -> None:
        """Refuse what is left, but for the names in `unused`."""
        unknown = sorted(set(self._left) - set(unused))
        if unknown:
            raise ModelSetError(
                f"{self._network}: unknown weights {', '.join(unknown[:5])} "
                f"({len(unknown)} in all): {_REMEDY}"
            )
