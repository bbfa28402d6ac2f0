"""All that the runs of a study have given so far, as one JSON document from which every table and figure is made.

Document: `study`, `title`, `about`, `command`, `date`, `baseline`, `confidence`, `seeds`, `machines`, `versions`,
`seconds` of computing, `variants` (name -> `label`, `against`, `differs`: lines, `config`), `sweeps`, `measures`
(`key`, `title`, `unit`, `group`), `runs` (`variant`, `seed`, `status`, `error`, `seconds`, `machine`, `results`,
`training`, `curves`), `table` (a row per variant and measure: `values` by seed, `mean`, `std`, `difference`) and
`published` (measure -> variant -> `mean`, `std`, `source`).
Shares are in [0, 1], and None stands for what is not a finite number.
"""

import csv
import datetime
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ncl_jax import config as config_lib
from ncl_jax import metrics, workdir
from ncl_jax.benchmark import machine
from ncl_jax.errors import UserError
from ncl_jax.evaluation import report, sets
from ncl_jax.evaluation.rows import Measure, Row, measures
from ncl_jax.study import runs, statistics
from ncl_jax.study.plan import Plan

# Of the last line of the training log: what shows whether the negatives were solved, and whether all collapsed.
_TRAINING = (
    Row("similarity_positive", "cosine to the positive", ""),
    Row("similarity_ns", "cosine to the negatives", ""),
    Row("feature_std", "std of the embeddings", ""),
    Row("effective_rank", "effective rank of the embeddings", ""),
)
_CURVES = ("loss", "chance_loss", "similarity_ns", "effective_rank", "knn_top1")
_POINTS = 60  # of a curve in the document
# Changed on the command line, these leave the published setting what it was: where images lie, and what is kept.
_SAME_SETTING = re.compile(
    r"data\.(name|data_dir|cache)|log_every|checkpoint\..+"
    r"|evaluation\.(every_epochs|sets\.[^.]+\.(dataset|split|data_dir))"
)


Document = dict[str, Any]
Log = list[dict[str, Any]]  # rows of a run's metrics.jsonl


def collect(plan: Plan, root: Path, command: str) -> Document:
    """The document of the runs in `root`, finished or not."""
    found = [_run(plan, root, variant, seed) for variant, seed in plan.runs()]
    names, values = _values(found)
    used = {run["machine"] for run in found if run["machine"]}
    document = {
        "study": plan.name,
        "title": plan.study.title or plan.name,
        "about": plan.study.about,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "baseline": plan.baseline,
        "confidence": plan.study.confidence,
        "seeds": list(plan.study.seeds),
        "machines": sorted(used),
        "versions": machine.describe()["versions"],
        "seconds": round(sum(run["seconds"] for run in found), 1),
        "variants": _variants(plan),
        "sweeps": {axis: dict(values) for axis, values in plan.study.sweeps.items()},
        "measures": [{"key": m.key, "title": m.title, "unit": m.unit, "group": _group(m.key, found)} for m in names],
        "runs": found,
        "table": [_cell(plan, variant, measure.key, values) for variant in plan.configs for measure in names],
        "published": published(plan),
    }
    return json.loads(json.dumps(workdir.finite(document), allow_nan=False))


def read(path: Path) -> Document:
    """A document that was written before. Raises UserError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: no study was run or kept there") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no text
        raise UserError(f"{path}: is damaged ({error})") from error
    if not isinstance(document, dict) or not {"runs", "variants"} <= document.keys():
        raise UserError(f"{path}: is no summary of a study")
    return document


def _run(plan: Plan, root: Path, variant: str, seed: int) -> dict[str, Any]:
    folder = runs.folder_of(root, variant, seed)
    record = runs.read(folder) or {"status": "not begun"}
    changes = runs.changes(record["config"], plan.config(variant, seed)) if record["status"] == "finished" else []
    if changes:  # its figures compare with nothing here
        record = {"status": "other settings", "error": "; ".join(changes)}
    described, log = record.get("machine"), metrics.read(folder / "metrics.jsonl")
    return {
        "variant": variant,
        "seed": seed,
        "status": record["status"],
        "error": record.get("error"),
        "seconds": record.get("seconds", 0.0),
        "machine": machine.line(described) if isinstance(described, dict) else described,
        "results": record.get("results"),
        "curves": {} if changes else _curves(log),
        "training": _last(log) if record["status"] == "finished" else {},
    }


def _last(log: Log) -> dict[str, float]:
    last = next((row for row in reversed(log) if "loss" in row), {})
    return {row.path: last[row.path] for row in _TRAINING if row.path in last}


def _curves(log: Log) -> dict[str, list[list[float]]]:
    """Metric -> [step, value] at up to `_POINTS` steps."""
    curves = {}
    for name in _CURVES:
        points = [[row["step"], row[name]] for row in log if name in row]
        stride = -(-len(points) // _POINTS)
        if points:
            curves[name] = points[::-stride][::-1]
    return curves


def _values(found: list[dict[str, Any]]) -> tuple[list[Measure], dict[str, dict[str, dict[int, float]]]]:
    """All measures in the order of the tables, and variant -> key -> seed -> value."""
    names: dict[str, Measure] = {}
    values: dict[str, dict[str, dict[int, float]]] = {}
    for run in found:
        if run["status"] != "finished":
            continue
        of_training = measures(run["training"], _TRAINING)
        of_training = [measure._replace(key=f"training/{measure.key}") for measure in of_training]
        for measure in [*report.measures(run["results"]), *of_training]:
            if math.isfinite(measure.value):
                names.setdefault(measure.key, measure)
                values.setdefault(run["variant"], {}).setdefault(measure.key, {})[run["seed"]] = measure.value
    return sorted(names.values(), key=lambda measure: measure.key.startswith("training/")), values


def _group(key: str, found: list[dict[str, Any]]) -> str:
    """Of which table a measure is: "results", "analysis" or "training"."""
    name = key.rpartition("/")[0]  # a set's may hold a stroke too
    if name == "training":
        return name
    kinds = {run["results"]["sets"].get(name, {}).get("kind", "") for run in found if run["results"]}
    return "analysis" if any(sets.has(kind, "ANALYSIS") for kind in kinds) else "results"


def _cell(plan: Plan, variant: str, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    own = values.get(variant, {}).get(key, {})
    against = plan.against(variant)
    base = values.get(against, {}).get(key, {})
    mean, deviation = statistics.mean_and_deviation([*own.values()]) if own else (None, None)
    difference = None
    if variant != against:
        difference = statistics.difference(own, base, confidence=plan.study.confidence)
    return {
        "variant": variant,
        "measure": key,
        "values": own,
        "mean": mean,
        "std": deviation,
        "difference": difference._asdict() if difference else None,
    }


def _variants(plan: Plan) -> dict[str, Any]:
    """Labels, what each is compared with, in which settings it differs from that, and all settings."""
    configs = {name: config_lib.to_dict(config) for name, config in plan.configs.items()}
    return {
        name: {
            "label": plan.label(name),
            "against": plan.against(name),
            "differs": config_lib.difference(configs[plan.against(name)], config),
            "config": config,
        }
        for name, config in configs.items()
    }


def published(plan: Plan) -> dict[str, Any]:
    """Measure -> variant -> mean, std and source, as shares; nothing where the command line changed the setting."""
    settings = plan.study.published
    if not settings.rows or not all(map(_SAME_SETTING.fullmatch, plan.changed)):
        return {}
    rows = published_table(settings.table)
    found: dict[str, Any] = {}
    for variant, name in settings.rows.items():
        if name not in rows:
            raise UserError(f"config.published.rows.{variant} = {name!r}: is no row of {settings.table}")
        row = rows[name]
        for key, column in settings.measures.items():
            if row.get(column):
                deviation = row.get(f"{column}_std")
                cell = {"mean": float(row[column]) / 100, "std": float(deviation) / 100 if deviation else None}
                found.setdefault(key, {})[variant] = cell | {"source": row["source"]}
    return found


def published_table(name: str) -> dict[str, dict[str, str]]:
    """The rows of a published table of this package, by their `row`; figures in percent. UserError if there is none."""
    file = resources.files("ncl_jax.study").joinpath(name)
    if not name.endswith(".csv") or not file.is_file():
        raise UserError(f"config.published.table = {name!r}: no such table in ncl_jax/study")
    return {row["row"]: row for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}
