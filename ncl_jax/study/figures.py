"""The figures of a study's report, each drawn from its document alone and returned as PNG. None: nothing to draw."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncl_jax.evaluation import figures, sets
from ncl_jax.study import tables

Document = Mapping[str, Any]

_ACCURACIES = ("top1", "masked", "mean")  # paths, behind the name of their set
_CURVES = {
    "loss": "loss (nats)",
    "similarity_ns": "cosine to the negatives",
    "effective_rank": "effective rank of the embeddings",
    "knn_top1": "kNN top-1 (%)",
}


def overview(document: Document, group: str = "results", *, main: bool = False) -> bytes | None:
    """A panel per measure of a group, or per main one: each seed a dot, their mean and standard deviation, published
    figures beside."""
    measures, names, table = tables.measured(document, group), tables.begun(document), tables.cells(document)
    measures = [measure for measure in measures if _is_main(measure) or not main]
    if not measures or not names:
        return None
    rows = -(-len(measures) // 4)
    columns = -(-len(measures) // rows)
    figure, panels = figures.new(rows, columns, (3.3 * columns + 1.2, rows * (0.3 * len(names) + 0.9)), sharey=True)
    for panel, measure in zip(panels, measures, strict=False):
        base = table[document["baseline"], measure["key"]]["mean"]
        if base is not None:
            panel.axvline(_shown(base, measure), color="#8d99ae", linewidth=1)
        for place, name in enumerate(names):
            cell = table[name, measure["key"]]
            colour = "#2b2d42" if name == document["baseline"] else "#d1495b"
            values = [_shown(value, measure) for value in cell["values"].values()]
            panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, markersize=4)
            if cell["mean"] is not None:
                spread = _shown(cell["std"] or 0.0, measure)
                panel.errorbar(_shown(cell["mean"], measure), place, xerr=spread, fmt="|", color=colour, capsize=3)
            published = document["published"].get(measure["key"], {}).get(name)
            if published:
                panel.plot(_shown(published["mean"], measure), place + 0.25, "D", color="#edae49", markersize=5)
        panel.set_title(textwrap.fill(tables.heading(measure), 40), fontsize=9)
        panel.set_yticks(range(len(names)), [document["variants"][name]["label"] for name in names], fontsize=8)
        panel.locator_params(axis="x", nbins=6)  # more labels would touch
    panels[0].set_ylim(len(names) - 0.5, -0.5)  # the first on top, and none on the frame
    for panel in panels[len(measures) :]:
        panel.set_visible(False)
    return figures.png(figure, panels)


def out_of_domain(document: Document) -> bytes | None:
    """Accuracy of the same probe in the domain (across) and out of it (up): what lies above the rest is robust."""
    results = [run["results"] for run in document["runs"] if run["results"]]
    others = {name for found in results for name, s in found["sets"].items() if sets.has(s["kind"], "OUT_OF_DOMAIN")}
    outside = [m for m in document["measures"] if m["unit"] == "%" and m["key"].rpartition("/")[0] in others]
    outside = [m for m in outside if m["key"].rpartition("/")[2] in _ACCURACIES]
    table, names = tables.cells(document), tables.begun(document)
    inside = {"key": "linear_top1", "unit": "%"}
    names = [name for name in names if (name, "linear_top1") in table and table[name, "linear_top1"]["values"]]
    if not outside or not names:
        return None
    figure, panels = figures.new(1, len(outside), (4.4 * len(outside) + 2.2, 4))
    for panel, measure in zip(panels, outside, strict=True):
        for name in names:
            x, y = table[name, "linear_top1"], table[name, measure["key"]]
            if x["mean"] is not None and y["mean"] is not None:
                panel.errorbar(
                    *(_shown(x["mean"], inside), _shown(y["mean"], measure)),
                    xerr=_shown(x["std"] or 0.0, inside),
                    yerr=_shown(y["std"] or 0.0, measure),
                    fmt="o",
                    color=colour(document, name),
                    capsize=2,
                    label=document["variants"][name]["label"],
                )
        panel.set(xlabel="linear probe, in domain (%)", ylabel=f"{measure['title']} (%)")
    panels[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figures.png(figure, panels)


def sweep(document: Document, axis: str) -> bytes | None:
    """The main measures along a swept setting; dashed: what each variant is compared with."""
    points, table = document["sweeps"][axis], tables.cells(document)
    wanted = [m for m in document["measures"] if _is_main(m)]
    names = [name for name in points if name in tables.begun(document)]
    if not wanted or len(names) < 2:
        return None
    numbers = all(isinstance(points[name], (int, float)) for name in names)
    if numbers:
        names.sort(key=lambda name: points[name])
    places = [float(points[name]) if numbers else float(i) for i, name in enumerate(names)]
    figure, panels = figures.new(1, len(wanted), (3.4 * len(wanted), 3.2))
    for panel, measure in zip(panels, wanted, strict=True):
        against = [document["variants"][name]["against"] for name in names]
        for chosen, style in ((against, {"fmt": "--", "color": "#8d99ae"}), (names, {"fmt": "o-", "color": "#d1495b"})):
            cells = [table[name, measure["key"]] for name in chosen]
            seen = [i for i, cell in enumerate(cells) if cell["mean"] is not None]
            panel.errorbar(
                [places[i] for i in seen],
                [_shown(cells[i]["mean"], measure) for i in seen],
                yerr=[_shown(cells[i]["std"] or 0.0, measure) for i in seen],
                capsize=3,
                label="with negatives" if chosen is names else "compared with",
                **style,
            )
        panel.set_title(textwrap.fill(tables.heading(measure), 40), fontsize=9)
        panel.set_xlabel(axis)
        spread = max(places) / max(min((p for p in places if p > 0), default=1.0), 1e-9)
        if numbers and min(places) > 0 and spread >= 8:
            panel.set_xscale("log", base=2)
        if numbers or len(names) <= 8:
            panel.set_xticks(places, [str(points[name]) for name in names], rotation=0 if numbers else 30)
            panel.minorticks_off()
    panels[0].legend(frameon=False, fontsize=8)
    return figures.png(figure, panels)


def curves(document: Document) -> bytes | None:
    """The course of every run that has begun, a colour per variant."""
    begun = [run for run in document["runs"] if run["curves"]]
    shown = [name for name in _CURVES if any(name in run["curves"] for run in begun)]
    if not shown:
        return None
    figure, panels = figures.new(1, len(shown), (3.9 * len(shown) + 1.6, 3.6))
    for panel, metric in zip(panels, shown, strict=True):
        for run in begun:
            points = np.asarray(run["curves"].get(metric, []), float).reshape(-1, 2)
            scale = 100 if metric.endswith("top1") else 1
            label = document["variants"][run["variant"]]["label"]
            same = run["seed"] == next(r["seed"] for r in begun if r["variant"] == run["variant"])
            panel.plot(
                *(points[:, 0], scale * points[:, 1]),
                color=colour(document, run["variant"]),
                linewidth=1.2,
                alpha=0.8,
                marker="o" if len(points) < 12 else None,
                markersize=3,
                label=label if same else None,
            )
        panel.set_title(_CURVES[metric], fontsize=9)
        panel.set_xlabel("step")
    panels[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figures.png(figure, panels)


def _is_main(measure: Mapping[str, str]) -> bool:
    last = measure["key"].rpartition("/")[2]
    return last in ("knn_top1", "linear_top1", "shape_bias", *_ACCURACIES)


def _shown(value: float, measure: Mapping[str, str]) -> float:
    return 100 * value if measure["unit"] == "%" else value


def colour(document: Document, variant: str) -> Any:
    """The same in all figures: black for the baseline, ten strong and then ten light colours for the others."""
    from matplotlib import colormaps

    others = [name for name in document["variants"] if name != document["baseline"]]
    if variant not in others:
        return "#2b2d42"
    place = others.index(variant) % 20
    return colormaps["tab20"](2 * place % 20 + place // 10)
