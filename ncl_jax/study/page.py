"""A study as one HTML page that needs nothing else: tables, figures inlined."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax import storage
from ncl_jax.study import analyses, figures, runs, tables

# Figures of single runs, shown for the first seed of each variant: file, caption.
_OF_RUNS = {
    "negatives.png": "What the encoder sees",
    "similarity.png": "Cosines of queries of the test images to what they are compared with",
    "neighbours.png": "Test images, and the test images nearest to each",
    "feature_map.png": "Features of the test images",
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
.settings td { white-space: normal; text-align: left; } .settings th { text-align: left; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid #888; min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.side { display: flex; flex-wrap: wrap; gap: 1rem; } .side figure { flex: 1 1 380px; max-width: 600px; margin: 0; }
figure { margin: 1.5rem 0; } figcaption { color: #555; font-size: 13px; } img { max-width: 100%; }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere; } .note { color: #555; font-size: 13px; }
"""


def write(document: Mapping[str, Any], path: Path, root: Path) -> None:
    """Write the page of `document`. `root`: the study's folder, where figures of single runs lie."""
    storage.write_text(path, render(document, root))


def render(document: Mapping[str, Any], root: Path) -> str:
    parts = [f"<h1>{_text(document['title'])}</h1>"]
    parts += [f"<p>{_text(document['about'])}</p>"] if document["about"] else []
    parts.append(f"<p><code>{_text(document['command'])}</code></p>")
    parts += ["<h2>Results</h2>", "<p>Mean ± standard deviation over the seeds.</p>", _table(tables.means(document))]
    compared = tables.differences(document)
    if compared:
        parts += ["<h2>Differences</h2>", f"<p>{_text(tables.about_differences(document))}</p>", _table(compared)]
    for group, title in tables.MORE.items():
        if tables.measured(document, group):
            parts += [f"<h2>{title}</h2>", _table(tables.means(document, group))]
            compared = tables.differences(document, group) if group == "analysis" else []
            parts += [_table(compared)] if compared else []
    failed_or_missing = (("Failed", tables.failures(document)), ("Left out", tables.left_out(document)))
    for title, lines in failed_or_missing:
        if lines:
            items = "".join(f"<li>{_text(line)}</li>" for line in lines)
            parts.append(f"<h2>{title}</h2><ul>{items}</ul>")
    parts += _figures(document)
    parts += _of_runs(document, root)
    parts += ["<h2>Settings</h2>", _settings(document)]
    parts.append(f"<p class='note'>{_text(tables.about_runs(document))}</p>")
    head = f"<meta charset='utf-8'><title>{_text(document['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _figures(document: Mapping[str, Any]) -> list[str]:
    """Everything that is drawn from the document."""
    drawn = [
        ("Every measure", "Dots: seeds. Bars: mean and standard deviation. Diamonds: published.", figures.overview),
        ("Analyses of the features", "", lambda d: figures.overview(d, "analysis")),
        ("In and out of domain", "", figures.out_of_domain),
        *(
            (
                f"Along {axis}",
                "Mean and standard deviation over the seeds.",
                lambda d, axis=axis: figures.sweep(d, axis),
            )
            for axis in document["sweeps"]
        ),
        ("While training", "", figures.curves),
    ]
    parts = []
    for title, caption, draw in drawn:
        png = draw(document)
        if png:
            parts += [f"<h2>{_text(title)}</h2>", _figure(png, caption)]
    for title, found in (
        ("Shape bias", analyses.shape_bias(document)),
        ("Classes that gain and lose", analyses.class_changes(document)),
        ("Fine and coarse classes", analyses.hierarchy(document)),
    ):
        if found:
            shown = "".join(_figure(png, caption) for caption, png in found)
            parts += [f"<h2>{title}</h2>", f"<div class='side'>{shown}</div>"]
    return parts


def _of_runs(document: Mapping[str, Any], root: Path) -> list[str]:
    parts = []
    for name, title in _OF_RUNS.items():
        shown = []
        for variant, about in document["variants"].items():
            file = runs.folder_of(root, variant, document["seeds"][0]) / name
            if file.is_file():
                shown.append(_figure(file.read_bytes(), f"{about['label']}, seed {document['seeds'][0]}"))
        if shown:
            parts += [f"<h2>{title}</h2>", f"<div class='side'>{''.join(shown)}</div>"]
    return parts


def _settings(document: Mapping[str, Any]) -> str:
    """In what each variant differs from what it is compared with."""
    rows = [["", "compared with", "differs in"]]
    for name, variant in document["variants"].items():
        against = "" if variant["against"] == name else document["variants"][variant["against"]]["label"]
        rows.append([f"{variant['label']} ({name})", against, "; ".join(variant["differs"])])
    return _table(rows, kind="settings")


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<figure><img src='data:image/png;base64,{data}' alt=''><figcaption>{_text(caption)}</figcaption></figure>"


def _table(rows: list[list[str]], kind: str = "") -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<div class='wide'><table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    """Markdown's bold is the only markup of a cell."""
    bold = text.startswith("**")
    return f"<b>{_text(text.strip('*'))}</b>" if bold else _text(text)


def _text(text: str) -> str:
    return html.escape(text)
