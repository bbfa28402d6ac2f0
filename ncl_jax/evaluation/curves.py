"""The course of a run as one figure."""

import json
from pathlib import Path

# Panels in order: title, the metrics drawn in it, and whether they are shares shown in percent.
_PANELS = (
    ("loss (nats)", ("loss", "chance_loss"), False),
    ("cosine to the query", ("similarity_positive", "similarity_ns", "similarity_queue"), False),
    ("accuracy (%)", ("contrast_top1", "online_top1", "knn_top1"), True),
    ("collapse guards", ("feature_std", "effective_rank"), False),
)


def draw(metrics: Path, target: Path) -> None:
    """Write a PNG with the loss, similarities, accuracies and collapse guards of a `metrics.jsonl` over its steps."""
    from matplotlib.figure import Figure  # takes a second to import: only when something is drawn

    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    for axes, (title, names, percent) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for name in names:
            points = [(row["step"], row[name] * (100 if percent else 1)) for row in rows if name in row]
            if points:
                marker = "o" if name == "knn_top1" else None
                axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=marker, markersize=3)
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)
