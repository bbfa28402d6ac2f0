"""The course of a run as one figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncl_jax import metrics, storage
from ncl_jax.evaluation import figures

# Panels in order: title, the metrics drawn in it, and whether they are shares shown in percent.
_PANELS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("loss (nats)", ("loss", "chance_loss"), False),
    ("cosine to the query", ("similarity_positive", "similarity_ns", "similarity_queue"), False),
    ("accuracy (%)", ("contrast_top1", "online_top1", "knn_top1", "linear_top1"), True),
    ("collapse guards", ("feature_std", "effective_rank"), False),
)


def draw(log: Path, target: Path, measures: Mapping[str, tuple[str, str]] | None = None) -> None:
    """Write a PNG with the loss, similarities, accuracies and collapse guards of a `metrics.jsonl` over its steps.

    `measures`: key -> title and unit of what was measured on test sets while the run went on; they get panels of their
    own where there are any, one for each unit.
    """
    rows = metrics.read(log)
    titles = {name: name.replace("_", " ") for _, names, _ in _PANELS for name in names}
    panels, measures = list(_PANELS), measures or {}
    measured = [key for key in measures if any(key in row for row in rows)]
    for unit in dict.fromkeys(measures[key][1] for key in measured):
        keys = tuple(key for key in measured if measures[key][1] == unit)
        panels.append((f"out of domain ({unit.strip() or 'ratio'})", keys, unit == "%"))
    titles |= {key: title for key, (title, _) in measures.items()}
    lines = -(-len(panels) // 2)
    figure, drawn = figures.new(lines, 2, (11, 3.1 * lines))
    for axes, panel in zip(drawn, panels, strict=False):
        _draw_panel(axes, panel, rows, titles)
    storage.write_bytes(target, figures.png(figure, drawn[: len(panels)]))


def _draw_panel(
    axes: Any, panel: tuple[str, tuple[str, ...], bool], rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> None:
    title, names, percent = panel
    for name in names:
        points = [(row["step"], row[name] * (100 if percent else 1)) for row in rows if row.get(name) is not None]
        if points:
            marker = "o" if name in ("knn_top1", "linear_top1") or "/" in name else None
            axes.plot(*zip(*points, strict=True), label=titles[name], marker=marker, markersize=3)
    axes.set(title=title, xlabel="step")
    if axes.lines:
        axes.legend(framealpha=0.8, edgecolor="none", fontsize=9 if len(axes.lines) < 8 else 7)
