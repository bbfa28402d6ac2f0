"""Which numbers of a result stand in tables, under which title and in which unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """`path`: dotted, into the result. `title` may hold `{name}`, which the config gave the set; one that does not is
    preceded by that name where it is not the set's kind. `about(result)` is what the title goes on with."""

    path: str
    title: str
    unit: str = "%"  # a share in [0, 1], shown in percent; anything else stands behind the number as it is
    about: Callable[[Mapping[str, Any]], str] = lambda result: ""


class Measure(NamedTuple):
    """A number; `key` (`NAME/path`, or the path alone) tells it from all others of a run."""

    key: str
    title: str
    value: float
    unit: str

    def __str__(self) -> str:
        return number(self.value, self.unit) + (" %" if self.unit == "%" else self.unit)


def number(value: float | None, unit: str, *, signed: bool = False, like: float | None = None) -> str:
    """A figure without its unit: shares in percent, numbers below 10 with three digits behind the point.

    A difference is `signed`. `like`: the figure that it belongs to and shares its digits with.
    """
    if value is None:
        return ""
    sign = "+" if signed else ""
    if unit == "%":
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.3f}" if abs(value if like is None else like) < 10 else f"{value:{sign}.1f}"


def measures(result: Mapping[str, Any], rows: Sequence[Row], name: str = "", kind: str = "") -> Iterator[Measure]:
    """The rows that the result has a number for."""
    for row in rows:
        value: Any = result
        for part in row.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            key = f"{name}/{row.path}" if name else row.path
            title = row.title if name == kind or "{name}" in row.title else "{name}, " + row.title
            yield Measure(key, title.format(name=name) + row.about(result), float(value), row.unit)
