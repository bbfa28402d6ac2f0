"""Splits and slices of them by TFDS's rules, for datasets that need no TFDS: `train[:10%]+val`."""

import re
from collections.abc import Mapping

from ncl_jax.errors import UserError

_PART = re.compile(r"(\w[\w-]*)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def parse(name: str, spec: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """(split, low, high) of each part of `spec`; `sizes` are the splits' examples. `all` is every split.

    Bounds are indices or per cent (rounded to the nearest example); negative ones count from the end. Raises UserError
    for an unknown split, a bound beyond the split, other text, and where nothing is left.
    """
    known = ", ".join(sizes) or "none"
    parts = []
    for piece in "+".join(sizes).split("+") if spec == "all" else spec.split("+"):
        match = _PART.fullmatch(piece.strip())
        if not match or match[1] not in sizes:
            raise UserError(f"dataset {name}: no split {spec!r}; it has {known}")
        size = sizes[match[1]]
        low, high = _bound(match[2], 0, size), _bound(match[3], size, size)
        if not (0 <= low <= size and 0 <= high <= size):
            raise UserError(f"dataset {name}: split {spec!r} goes beyond the {size} examples of {match[1]}")
        if high > low:
            parts.append((match[1], low, high))
    if not parts:
        raise UserError(f"dataset {name}: split {spec!r} is empty; it has {known}")
    return parts


def _bound(text: str | None, default: int, size: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return value + size if text.startswith("-") else value
