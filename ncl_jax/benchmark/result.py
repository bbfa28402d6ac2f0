"""What a benchmark is asked and what it answers; as Markdown for people, as JSON for the record."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ncl_jax import config as config_lib
from ncl_jax.benchmark.timing import Timing
from ncl_jax.config import Config
from ncl_jax.errors import UserError

Row = Mapping[str, Any]  # column (with its unit) -> text or number; None: does not apply


@dataclasses.dataclass(frozen=True)
class Options:
    config: Config | None = None
    against: str | None = None  # a peer to run beside
    seconds: float = 2.0  # of measuring per figure, after the warm-up

    def need_config(self, name: str) -> Config:
        if self.config is None:
            raise UserError(f"{name} measures a config: give --config=configs/NAME.py")
        return self.config


@dataclasses.dataclass(frozen=True)
class Result:
    """Tables by title; `notes` say what a reader must know to judge them; `samples` are raw seconds."""

    tables: Mapping[str, Sequence[Row]]
    notes: Sequence[str] = ()
    samples: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


def spread(timing: Timing) -> str:
    """The quartiles as text: `1.02-1.1`."""
    low, high = timing.quartiles
    return f"{low:.3g}-{high:.3g}"


def document(command: str, machine: Mapping[str, Any], options: Options, results: Mapping[str, Result]) -> dict:
    """Everything needed to understand and repeat the measurement, for JSON."""
    return {
        "command": command,
        "machine": dict(machine),
        "config": config_lib.to_dict(options.config) if options.config else None,
        "against": options.against,
        "seconds": options.seconds,
        "benchmarks": {name: dataclasses.asdict(result) for name, result in results.items()},
    }


def markdown(name: str, about: str, result: Result) -> str:
    """A heading, a table for each of the result's, and the notes."""
    parts = [f"### {name}: {about}"]
    for title, rows in result.tables.items():
        if not rows:
            continue
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines = [columns, ["---"] * len(columns), *([_text(row.get(column)) for column in columns] for row in rows)]
        parts += [title] if title else []
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    if result.notes:
        parts.append("\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(parts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
