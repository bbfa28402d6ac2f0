"""Results as a table for the terminal and for Markdown."""

from collections.abc import Mapping
from typing import Any

# Names in results.json -> what a reader calls them, in the order of the table.
_ROWS = (
    ("knn_top1", "kNN top-1"),
    ("linear_top1", "linear probe top-1"),
    ("cue_conflict.shape", "decisions by shape"),
    ("cue_conflict.texture", "decisions by texture"),
    ("cue_conflict.other", "decisions by neither"),
    ("cue_conflict.shape_bias", "shape bias"),
)


def table(results: Mapping[str, Any], *, markdown: bool = False) -> str:
    """The measured rows of `results`; shares and accuracies in percent, the shape bias as the ratio that it is."""
    rows = []
    for path, title in _ROWS:
        value: Any = results
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            rows.append((title, f"{value:.3f}" if path.endswith("shape_bias") else f"{100 * value:.1f} %"))
    if markdown:
        return "\n".join(["| measure | value |", "|---|---:|", *(f"| {title} | {value} |" for title, value in rows)])
    left = max(len(title) for title, _ in rows)
    right = max(len(value) for _, value in rows)
    rule = "\u2500" * (left + right + 2)
    lines = [f"{title:<{left}}  {value:>{right}}" for title, value in rows]
    return "\n".join([str(results.get("dataset", "results")), rule, *lines, rule])
