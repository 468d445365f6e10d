"""Which vector instructions the rasterizer uses."""

from __future__ import annotations

from tddfa_native import _rasterize_cy as _cy


def select_instructions(most: str = "avx512") -> str:
    """Limit the instruction set, for tests; returns what is used.

    Parameters
    ----------
    most : "portable", "avx2" or "avx512"
    """
    names = ("portable", "avx2", "avx512")
    if most not in names:
        raise ValueError(f"most={most!r}: expected one of {', '.join(names)}")
    return names[_cy.select_instructions(names.index(most))]
