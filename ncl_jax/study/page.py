"""A study as one HTML page that needs nothing else: tables, figures inlined."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax import workdir
from ncl_jax.study import tables

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid #888; min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
figure { margin: 1.5rem 0; } figcaption { color: #555; font-size: 13px; } img { max-width: 100%; }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere; } .note { color: #555; font-size: 13px; }
"""


def write(document: Mapping[str, Any], path: Path, root: Path) -> None:
    """Write the page of `document`. `root`: the study's folder, where figures of single runs lie."""
    workdir.write_text(path, render(document, root))


def render(document: Mapping[str, Any], root: Path) -> str:
    parts = [f"<h1>{_text(document['title'])}</h1>"]
    parts += [f"<p>{_text(document['about'])}</p>"] if document["about"] else []
    parts.append(f"<p><code>{_text(document['command'])}</code></p>")
    parts += ["<h2>Results</h2>", "<p>Mean ± standard deviation over the seeds.</p>", _table(tables.means(document))]
    compared = tables.differences(document)
    if compared:
        parts += ["<h2>Differences</h2>", f"<p>{_text(tables.about_differences(document))}</p>", _table(compared)]
    for title, lines in (("Failed", tables.failures(document)), ("Left out", tables.left_out(document))):
        if lines:
            items = "".join(f"<li>{_text(line)}</li>" for line in lines)
            parts.append(f"<h2>{title}</h2><ul>{items}</ul>")
    parts.append(f"<p class='note'>{_text(tables.about_runs(document))}</p>")
    head = f"<meta charset='utf-8'><title>{_text(document['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    """Markdown's bold is the only markup of a cell."""
    bold = text.startswith("**")
    return f"<b>{_text(text.strip('*'))}</b>" if bold else _text(text)


def _text(text: str) -> str:
    return html.escape(text)
