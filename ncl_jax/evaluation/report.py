"""Results as numbers with titles and units, and as a table for the terminal and for Markdown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax import storage
from ncl_jax.errors import UserError
from ncl_jax.evaluation import sets
from ncl_jax.evaluation.rows import Measure, Row
from ncl_jax.evaluation.rows import measures as measures_of

_ROWS = (Row("knn_top1", "kNN top-1"), Row("linear_top1", "linear probe top-1"))


def measures(results: Mapping[str, Any]) -> list[Measure]:
    """Every number of `results` that stands in a table, in its order."""
    found = list(measures_of(results, _ROWS))
    for name, result in results.get("sets", {}).items():
        kind = result["kind"]
        found += measures_of(result, sets.REGISTRY[kind].ROWS, name, kind)
    return found


def table(results: Mapping[str, Any], *, markdown: bool = False) -> str:
    """The measures of `results`; shares and accuracies in percent, ratios as they are; then what was left out."""
    rows = [(measure.title, str(measure)) for measure in measures(results)]
    skipped = [f"left out: {name}: {reason}" for name, reason in results.get("skipped", {}).items()]
    if markdown:
        table = ["| measure | value |", "|---|---:|", *(f"| {title} | {value} |" for title, value in rows)]
        return "\n".join([*table, *(f"\n{line}" for line in skipped)])
    head = str(results.get("dataset", "results"))
    if not rows:
        return "\n".join([head, *skipped])
    left = max(len(title) for title, _ in rows)
    right = max(len(value) for _, value in rows)
    rule = "\u2500" * (left + right + 2)
    lines = [f"{title:<{left}}  {value:>{right}}" for title, value in rows]
    return "\n".join([head, rule, *lines, rule, *skipped])


def read(folder: str | Path, name: str = "") -> dict[str, Any]:
    """`results.json` of a workdir, or `results_NAME.json` of its evaluation by another config (`name_of`)."""
    file = storage.path(folder) / (f"results_{name}.json" if name else "results.json")
    try:
        with storage.reaching(file):
            text = file.read_text()
        return json.loads(text)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; pretrain or evaluate there first") from error


def name_of(config: str) -> str:
    """NAME of `results_NAME.json` of an evaluation by `configs/eval/FILE.py:VARIANT`: `FILE_VARIANT`, or `FILE`."""
    path, _, variant = config.partition(":")
    return f"{Path(path).stem}_{variant}" if variant else Path(path).stem


def comparison(folders: Mapping[str, str | Path]) -> str:
    """A Markdown table with a column for each workdir, by its title: the measures that all of them have alike."""
    columns = {title: {m.key: m for m in measures(read(folder))} for title, folder in folders.items()}
    first, *others = columns.values()
    shared = [key for key in first if all(key in o and o[key].title == first[key].title for o in others)]
    head = ["| measure | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    rows = [f"| {first[key].title} | {' | '.join(str(column[key]) for column in columns.values())} |" for key in shared]
    return "\n".join(head + rows)
