"""Splits and slices of them by TFDS's rules, for datasets that need no TFDS: `train[:10%]+val`."""

import difflib
import re
from collections.abc import Iterable, Mapping

from ncl_jax.errors import Mistake, NoSplit, UserError

_PART = re.compile(r"(\w[\w-]*)(?:\[(-?[\d.]+%?)?:(-?[\d.]+%?)?\])?")


def parse(name: str, spec: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """(split, low, high) of each part of `spec`; `sizes` are the splits' examples. `all` is every split.

    Bounds are indices or, both where one is, per cent (rounded to the nearest example); negative ones count from the
    end. Raises UserError for an unknown split, a bound beyond the split, other text, and where nothing is left, as of
    the last 1 % of 40 (for TFDS, which counts from the end only after rounding, that is the whole split).
    """
    known = ", ".join(sizes) or "none"
    parts = []
    for piece in sizes if spec == "all" else spec.split("+"):
        match = _PART.fullmatch(piece.strip())
        if not match or match[1] not in sizes:
            raise unknown(name, spec, sizes)
        size = sizes[match[1]]
        percent = any(bound and bound.endswith("%") for bound in match.groups()[1:])
        try:
            low, high = _bound(match[2], 0, size, percent=percent), _bound(match[3], size, size, percent=percent)
        except ValueError:  # as of 1.5 examples
            raise unknown(name, spec, sizes) from None
        if not (0 <= low <= size and 0 <= high <= size):
            raise UserError(f"dataset {name}: split {spec!r} goes beyond the {size} examples of {match[1]}")
        if high > low:
            parts.append((match[1], low, high))
    if not parts:
        raise UserError(f"dataset {name}: split {spec!r} is empty; it has {known}")
    return parts


def unknown(name: str, spec: str, known: Iterable[str]) -> UserError:
    """The error for a `spec` that names none of the `known` splits, or cannot be read."""
    known = list(known)
    names = [piece.partition("[")[0].strip() for piece in spec.split("+")]
    strange = next((each for each in names if each not in (*known, "all")), None)
    if strange is None:
        return UserError(
            f"dataset {name}: split {spec!r} cannot be read; slices are train[:10%], train[100:200], and end within "
            "the split's examples"
        )
    near = difflib.get_close_matches(strange, known, n=1, cutoff=0.8)
    if near:
        return Mistake(f"dataset {name}: no split {strange!r}; did you mean {near[0]!r}?")
    slices = f"; of one, slices are train and test: {known[0]}[:80%], {known[0]}[80%:]" if len(known) == 1 else ""
    return NoSplit(f"dataset {name}: no split {spec!r}; it has {', '.join(known) or 'none'}{slices}")


def _bound(text: str | None, default: int, size: int, *, percent: bool) -> int:
    if text is None:
        return default
    value = round(float(text.removesuffix("%")) * size / 100) if percent else int(text)
    return value + size if text.startswith("-") else value
