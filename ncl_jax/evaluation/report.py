"""Results as numbers with titles and units, and as a table for the terminal and for Markdown."""

from collections.abc import Mapping
from typing import Any

from ncl_jax.evaluation import sets
from ncl_jax.evaluation.rows import Measure, Row
from ncl_jax.evaluation.rows import measures as measures_of

_ROWS = (Row("knn_top1", "kNN top-1"), Row("linear_top1", "linear probe top-1"))


def measures(results: Mapping[str, Any]) -> list[Measure]:
    """Every number of `results` that stands in a table, in its order."""
    found = list(measures_of(results, _ROWS))
    for name, result in results.get("sets", {}).items():
        found += measures_of(result, sets.REGISTRY[result["kind"]].ROWS, name)
    return found


def table(results: Mapping[str, Any], *, markdown: bool = False) -> str:
    """The measures of `results`; shares and accuracies in percent, ratios as they are; then what was left out."""
    rows = [(measure.title, str(measure)) for measure in measures(results)]
    skipped = [f"left out: {name}: {reason}" for name, reason in results.get("skipped", {}).items()]
    if markdown:
        table = ["| measure | value |", "|---|---:|", *(f"| {title} | {value} |" for title, value in rows)]
        return "\n".join([*table, *(f"\n{line}" for line in skipped)])
    left = max(len(title) for title, _ in rows)
    right = max(len(value) for _, value in rows)
    rule = "\u2500" * (left + right + 2)
    lines = [f"{title:<{left}}  {value:>{right}}" for title, value in rows]
    return "\n".join([str(results.get("dataset", "results")), rule, *lines, rule, *skipped])
