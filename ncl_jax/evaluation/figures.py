"""The analyses as figures: each writes a PNG and returns its path. matplotlib is imported when one is drawn."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ncl_jax import sheets, storage
from ncl_jax.evaluation.features import normalize_rows

_COLOURS = {"positive": "#2a9d8f", "queue": "#8d99ae", "patch": "#e76f51", "texture": "#7b2cbf"}


def similarity_histograms(cosines: Mapping[str, np.ndarray], path: str | Path) -> Path:
    """Densities of the cosines of `similarity.similarities`, one curve for each kind, with their means."""
    figure, (axes,) = new(1, 1, (7, 4))
    bins = np.linspace(-1, 1, 81)
    for kind, values in cosines.items():
        colour = _COLOURS.get(kind)
        label = f"{kind} (mean {np.mean(values):.2f})"
        axes.hist(values, bins=bins, density=True, histtype="stepfilled", alpha=0.35, label=label, color=colour)
    axes.set(xlabel="cosine to the query", ylabel="density", xlim=(-1, 1))
    return _save(figure, [axes], path)


def shape_bias_by_category(
    rows: Mapping[str, Mapping[str, Mapping[str, float]]], path: str | Path, *, colours: Sequence[Any] = ()
) -> Path:
    """Shape bias per category (`shape_bias.per_category`) of several models, as Geirhos et al. draw it.

    `rows`: model name -> category -> `{"shape_bias": …}`, None or NaN where no decision followed either cue.
    A dashed line is a model's mean over its categories. `colours`: one of matplotlib for each model, if not its own.
    """
    names = list(dict.fromkeys(category for row in rows.values() for category in row))
    figure, (axes,) = new(1, 1, (7, 0.32 * len(names) + 1.6))
    for index, (model, row) in enumerate(rows.items()):
        values = np.array([row[name]["shape_bias"] if name in row else None for name in names], float)  # None: NaN
        colour = colours[index] if colours else f"C{index}"
        axes.plot(values, np.arange(len(names)), "o", color=colour, label=model)
        if np.isfinite(values).any():
            mean = float(np.nanmean(values))
            axes.axvline(mean, color=colour, linestyle="--", linewidth=1, label=f"mean of categories ({mean:.2f})")
    axes.set(xlim=(-0.02, 1.02), xlabel="shape bias (0: by texture, 1: by shape)", yticks=range(len(names)))
    axes.set_yticklabels(names)
    axes.invert_yaxis()
    return _save(figure, [axes], path)


def corruption_severities(results: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """Top-1 over the severity, one line for each model: the mean of its corruptions, and faintly each of them.

    `results`: model name -> result of the set `corruptions` (`per_severity`, `severities`).
    """
    figure, (axes,) = new(1, 1, (6, 4))
    for index, (model, result) in enumerate(results.items()):
        rows = 100 * np.array(list(result["per_severity"].values()))
        for row in rows:
            axes.plot(result["severities"], row, color=f"C{index}", linewidth=0.6, alpha=0.35)
        axes.plot(result["severities"], rows.mean(axis=0), "o-", color=f"C{index}", label=model)
    first = next(iter(results.values()))
    axes.set(xlabel="severity", ylabel="top-1 (%)", xticks=first["severities"], ylim=(0, None))
    return _save(figure, [axes], path)


def class_changes(changes: Sequence[tuple[str, float, float, float]], path: str | Path) -> Path:
    """The 12 classes that gain and the 12 that lose most (`class_accuracy.changes`), in percentage points."""
    shown = list(changes) if len(changes) <= 24 else [*changes[:12], *changes[-12:]]
    figure, (axes,) = new(1, 1, (7, 0.26 * len(shown) + 1.2))
    values = [100 * row[3] for row in shown]
    colours = ["#2a9d8f" if value >= 0 else "#e76f51" for value in values]
    axes.barh(range(len(shown)), values, color=colours)
    axes.set_yticks(range(len(shown)), [row[0] for row in shown], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("change of top-1 (points)")
    axes.invert_yaxis()
    return _save(figure, [axes], path, legend=False)


def class_scatter(accuracy: Float[np.ndarray, " c"], hierarchy: Mapping[str, Sequence[int]], path: str | Path) -> Path:
    """Accuracy of each class over its depth and its siblings in WordNet (`imagenet_classes.hierarchy`)."""
    figure, panels = new(1, len(hierarchy), (4.2 * len(hierarchy), 3.6))
    for axes, (name, values) in zip(panels, hierarchy.items(), strict=True):
        axes.plot(values, 100 * np.asarray(accuracy), ".", alpha=0.5)
        for level in sorted(set(values)):
            members = np.asarray(accuracy)[np.asarray(values) == level]
            if np.isfinite(members).any():
                axes.plot(level, 100 * np.nanmean(members), "_", color="black", markersize=14)
        axes.set(xlabel=f"{name} in WordNet", ylabel="top-1 (%)")
    return _save(figure, panels, path, legend=False)


def nearest_neighbours(
    queries: UInt8[np.ndarray, "q s s 3"], nearest: UInt8[np.ndarray, "q k s s 3"], path: str | Path
) -> Path:
    """A grid: each row a query and, behind it, its nearest images, the nearest first."""
    columns = [queries, *np.moveaxis(nearest, 1, 0)]
    titles = ["image", "nearest", *(f"nearest, {place}" for place in range(2, len(columns)))]
    path = storage.path(path)
    with storage.writing(path) as file:
        sheets.grid(columns, titles).save(file, format="PNG")
    return path


def feature_map(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    path: str | Path,
    *,
    names: Sequence[str] = (),
    method: str = "pca",
    seed: int = 0,
) -> Path:
    """Unit features in the plane, coloured by class. `method` "pca", or "tsne" where scikit-learn is installed.

    Up to ten classes get a legend. t-SNE takes about a minute for 5,000 rows.
    """
    points = np.asarray(normalize_rows(features), np.float64)
    points -= points.mean(axis=0)
    _, _, axes_of_variance = np.linalg.svd(points, full_matrices=False)
    plane = points @ axes_of_variance[:50].T
    if method == "tsne":
        plane = _tsne(plane, seed)
    figure, (axes,) = new(1, 1, (7.6, 6))
    present = np.unique(labels)
    for index, label in enumerate(present):
        members = plane[labels == label]
        name = names[label] if len(names) else str(label)
        text = name if len(present) <= 10 else None
        axes.plot(members[:, 0], members[:, 1], ".", color=f"C{index % 10}", markersize=4, alpha=0.6, label=text)
    axes.set(xticks=[], yticks=[], title=f"features ({method})")
    if len(present) <= 10:  # beside the points, which leave no corner free
        axes.legend(frameon=False, fontsize=9, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))
    return _save(figure, [axes], path, legend=False)


def _tsne(points: np.ndarray, seed: int) -> np.ndarray:
    from ncl_jax.errors import UserError

    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError(
            "feature map: tsne needs scikit-learn (pip install scikit-learn); or take method='pca'"
        ) from None
    return TSNE(2, init="pca", perplexity=min(30, (len(points) - 1) / 3), random_state=seed).fit_transform(points)


def new(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, list[Any]]:
    """A figure of `size` inches and its panels, row by row; `options` are those of matplotlib's `subplots`."""
    from matplotlib.figure import Figure  # takes a second to import; not pyplot: no global state, no window system

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def png(figure: Any, panels: Sequence[Any]) -> bytes:
    """The figure, these of its panels with a grid and without a frame."""
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _save(figure: Any, panels: Sequence[Any], path: str | Path, *, legend: bool = True) -> Path:
    for panel in panels if legend else ():
        panel.legend(frameon=False, fontsize=9)
    path = storage.path(path)
    storage.write_bytes(path, png(figure, panels))
    return path
