"""A study's document as Markdown for people and CSV for programs."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from ncl_jax.evaluation.rows import number

Document = Mapping[str, Any]
MORE = {"analysis": "Analyses of the features", "training": "At the end of training (last line of the log)"}


def with_spread(mean: float | None, deviation: float | None, unit: str) -> str:
    text = number(mean, unit)
    return f"{text} ± {number(deviation, unit, like=mean)}" if text and deviation is not None else text


def difference(cell: Mapping[str, Any] | None, unit: str) -> str:
    """`+1.2 [0.3, 2.1]`; bold where the interval leaves out zero."""
    if cell is None:
        return ""
    text = number(cell["mean"], unit, signed=True)
    if cell["low"] is None:
        return text
    low, high = (number(cell[end], unit, signed=True, like=cell["mean"]) for end in ("low", "high"))
    text += f" [{low}, {high}]"
    return f"**{text}**" if cell["low"] > 0 or cell["high"] < 0 else text


def heading(measure: Mapping[str, str]) -> str:
    unit = measure["unit"].strip()
    return f"{measure['title']} ({unit})" if unit else measure["title"]


def cells(document: Document) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The table by (variant, measure)."""
    return {(cell["variant"], cell["measure"]): cell for cell in document["table"]}


def begun(document: Document) -> list[str]:
    """Variants of which at least one run has ended."""
    ended = {run["variant"] for run in document["runs"] if run["status"] in ("finished", "failed")}
    return [name for name in document["variants"] if name in ended]


def state(document: Document, variant: str) -> str:
    """`3`, or `2 of 3 seeds, 1 failed`."""
    own = [run["status"] for run in document["runs"] if run["variant"] == variant]
    finished, failed = own.count("finished"), own.count("failed")
    text = str(finished) if finished == len(own) else f"{finished} of {len(own)}"
    return f"{text}, {failed} failed" if failed else text


def failures(document: Document) -> list[str]:
    """A line for each run that failed, or was run with other settings than the study has now."""
    return [
        f"{run['variant']}, seed {run['seed']}: {run['status']}: {run['error']}"
        for run in document["runs"]
        if run["status"] in ("failed", "other settings")
    ]


def left_out(document: Document) -> list[str]:
    """Test sets that were not there."""
    lines = {
        f"{name}: {reason}"
        for run in document["runs"]
        if run["results"]
        for name, reason in run["results"].get("skipped", {}).items()
    }
    return sorted(lines)


def measured(document: Document, group: str = "results") -> list[Mapping[str, str]]:
    """The measures of a group: "results", "analysis" or "training" (the last line of its log)."""
    return [m for m in document["measures"] if m["group"] == group]


def means(document: Document, group: str = "results") -> list[list[str]]:
    """A row per variant: label, seeds, mean ± standard deviation of every measure; then rows of published figures."""
    table, measures = cells(document), measured(document, group)
    rows = [["", "seeds", *map(heading, measures)]]
    for name in begun(document):
        label = document["variants"][name]["label"]
        found = [table[name, m["key"]] for m in measures]
        shown = [with_spread(c["mean"], c["std"], m["unit"]) for c, m in zip(found, measures, strict=True)]
        rows.append([label, state(document, name), *shown])
        published = [document["published"].get(m["key"], {}).get(name) for m in measures]
        if any(published):
            shown = [
                with_spread(cell["mean"], cell["std"], m["unit"]) if cell else ""
                for cell, m in zip(published, measures, strict=True)
            ]
            rows.append([f"{label}, published", "3", *shown])
    return rows


def differences(document: Document, group: str = "results") -> list[list[str]]:
    """A row per variant that is compared with another: the difference of every measure. Empty where there is none."""
    table, measures, several = cells(document), measured(document, group), len(_bases(document)) > 1
    rows = [["", *map(_points, measures)]]
    for name in begun(document):
        variant = document["variants"][name]
        if name != variant["against"]:
            shown = [difference(table[name, m["key"]]["difference"], m["unit"]) for m in measures]
            to = f" - {document['variants'][variant['against']]['label']}" if several else ""
            rows.append([variant["label"] + to, *shown])
    return rows if len(rows) > 1 else []


def about_differences(document: Document) -> str:
    paired = [cell["difference"]["paired"] for cell in document["table"] if cell["difference"]]
    how = "paired by seed" if all(paired) else "paired by seed where two or more seeds match, else Welch's"
    bases = _bases(document)
    to = f" to {document['variants'][bases[0]]['label']}" if len(bases) == 1 else ""
    return (
        f"Difference{to} with its "
        f"{100 * document['confidence']:g} % interval of Student's t, {how}; bold where it leaves out zero. "
        "Each interval stands alone: of many, some leave out zero by chance."
    )


def _bases(document: Document) -> list[str]:
    """What variants are compared with, in order."""
    return list(dict.fromkeys(v["against"] for name, v in document["variants"].items() if v["against"] != name))


def about_runs(document: Document) -> str:
    hours = document["seconds"] / 3600
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{document['seconds'] / 60:.1f} minutes"
    return f"{document['date'][:10]}; {spent} of computing in all; {'; '.join(document['machines']) or 'no run yet'}"


def markdown(document: Document) -> str:
    """The whole summary."""
    parts = [f"# {document['title']}"]
    parts += [document["about"]] if document["about"] else []
    parts.append(f"`{document['command']}`")
    if begun(document):
        parts.append("Mean ± standard deviation over the seeds.")
        parts.append(_markdown(means(document)))
    else:
        parts.append("No run has ended yet.")
    compared = differences(document)
    if compared:
        parts += [about_differences(document), _markdown(compared)]
    for group, title in MORE.items():
        if measured(document, group):
            parts += [f"{title}:", _markdown(means(document, group))]
    for title, lines in (("Failed", failures(document)), ("Left out", left_out(document))):
        if lines:
            parts.append(f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines))
    return "\n\n".join([*parts, about_runs(document)]) + "\n"


def summary_csv(document: Document) -> str:
    """A row per variant and measure. Shares are in [0, 1]."""
    units = {m["key"]: m["unit"].strip() for m in document["measures"]}
    rows: list[tuple[Any, ...]] = [
        ("variant", "measure", "unit", "seeds", "mean", "std", "difference", "low", "high", "paired", "published")
    ]
    for cell in document["table"]:
        found = cell["difference"] or dict.fromkeys(("mean", "low", "high", "paired"))
        published = document["published"].get(cell["measure"], {}).get(cell["variant"], {}).get("mean")
        rows.append(
            (
                *(cell["variant"], cell["measure"], units[cell["measure"]]),
                *(len(cell["values"]), cell["mean"], cell["std"]),
                *(found["mean"], found["low"], found["high"], found["paired"], published),
            )
        )
    return _csv(rows)


def runs_csv(document: Document) -> str:
    """A row per run: how it went, what it took, and every measure. Shares are in [0, 1]."""
    keys = [m["key"] for m in document["measures"]]
    table = cells(document)
    rows = [("variant", "seed", "status", "seconds", *keys, "error")]
    for run in document["runs"]:
        values = [table[run["variant"], key]["values"].get(str(run["seed"])) for key in keys]
        rows.append((run["variant"], run["seed"], run["status"], run["seconds"], *values, run["error"]))
    return _csv(rows)


def _points(measure: Mapping[str, str]) -> str:
    return f"{measure['title']} (points)" if measure["unit"] == "%" else heading(measure)


def _markdown(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines)


def _csv(rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
