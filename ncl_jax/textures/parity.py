"""Pixels of one parity, and those beside them as static slices, whichever parity it is (layout "quad": `features`)."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Int

Beside = Callable[[int, int], Array]  # (rows down, columns right), at most 2 -> [... i j]


def at(t: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The parity of turn t. Opposite corners of a cell first: (0, 0), (1, 1), (0, 1), (1, 0)."""
    return t & 1, (t & 1) ^ ((t >> 1) & 1)


def beside(plane: Callable[[Array, Array], Array], a: Array, b: Array) -> Beside:
    """What lies beside the pixels of parity (a, b).

    The four planes are put in order once, so that all else that a turn reads is known when it is compiled: else each
    start of each slice becomes a kernel of its own on a GPU.

    Args:
        plane: gives the plane `[... i+2 j+2]` of a parity, with a frame of one cell.
    """

    def ordered(p: int, q: int) -> Array:
        framed = plane((a + p) & 1, (b + q) & 1)
        front = framed.ndim - 2
        rows, columns = framed.shape[front:]
        return jax.lax.dynamic_slice(
            framed, (0,) * front + (p * a, q * b), (*framed.shape[:front], rows - p, columns - q)
        )

    planes = [[ordered(p, q) for q in (0, 1)] for p in (0, 1)]
    rows, columns = (side - 2 for side in planes[0][0].shape[-2:])

    def slice_of(down: int, right: int) -> Array:
        top, left = 1 + (down >> 1), 1 + (right >> 1)
        return planes[down & 1][right & 1][..., top : top + rows, left : left + columns]

    return slice_of
