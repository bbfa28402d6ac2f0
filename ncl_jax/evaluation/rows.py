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
        if self.unit == "%":
            return f"{100 * self.value:.1f} %"
        return f"{self.value:.3f}{self.unit}" if abs(self.value) < 10 else f"{self.value:.1f}{self.unit}"


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
