"""Half precision where the processor computes in it; elsewhere it would be many times slower."""

from __future__ import annotations

import torch


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether products of bfloat16 are taken to be faster there than those of float32.

    On GPUs, and on processors that say AVX-512 BF16.
    """
    if torch.device(device).type != "cpu":
        return True
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def mixed(device: str | torch.device) -> torch.autocast:
    """Context in which products are of bfloat16 if that is faster."""
    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=has_bfloat16(device)
    )
