"""Finished runs as files small enough for version control: kept (`--export`), and gone on from (`--import`)."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax import config as config_lib
from ncl_jax import storage, workdir
from ncl_jax.data import datasets
from ncl_jax.errors import UserError
from ncl_jax.study import figures, runs, summary, tables
from ncl_jax.study.plan import Plan

Run = tuple[str, int]  # variant, seed


def write_tables(document: summary.Document, folder: Path) -> None:
    """The document and its tables, each whole or not at all."""
    for name, text in (
        ("summary.json", json.dumps(document) + "\n"),
        ("summary.md", tables.markdown(document)),
        ("summary.csv", tables.summary_csv(document)),
        ("runs.csv", tables.runs_csv(document)),
    ):
        storage.write_text(folder / name, text)


def write(document: summary.Document, target: Path) -> None:
    """Keep the document, its tables and the figure of the main measures in `target`. Raises UserError (`check`)."""
    check(target, document, finished(document))
    write_tables(document, target)
    overview = figures.overview(document, main=True)
    if overview is not None:
        storage.write_bytes(target / "overview.png", overview)
    print(f"wrote {target}")


def check(target: Path, document: summary.Document, known: set[Run]) -> None:
    """Make the folder `target`. Raises UserError where it cannot be, and if finished runs are kept there that are not
    `known`, or are of other settings than the document's."""
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--export={target}: cannot be written: {error.strerror}") from error
    if not (target / "summary.json").exists():
        return
    old = _read(target)
    lost = finished(old) - known
    if lost:
        (variant, seed), planned = min(lost), {(run["variant"], run["seed"]) for run in document["runs"]}
        how = f"add --import={target}" if lost <= planned else "let the study have these variants and seeds too"
        raise UserError(
            f"--export={target}: would lose {len(lost)} finished runs that are kept there (first: variant {variant}, "
            f"seed {seed}); {how}, or name another folder"
        )
    for variant in sorted({variant for variant, _ in finished(old)}):
        new = document["variants"][variant]["config"]
        changes = _changes(old["variants"][variant]["config"], config_lib.parse(new))
        if changes:
            raise UserError(
                f"--export={target}: variant {variant} is kept there with other settings ({'; '.join(changes)}); "
                "name another folder"
            )


def finished(document: summary.Document) -> set[Run]:
    return {(run["variant"], run["seed"]) for run in document["runs"] if run["status"] == "finished"}


def take_over(plan: Plan, root: Path, source: Path) -> None:
    """Put the finished runs kept in `source` into the study's folder `root`, where they then count as its own.

    Runs that `root` has begun itself stay as they are, but for failed ones; those of other variants or seeds than the
    plan's stay out.
    Two folders of images are taken to be the same images, which lie elsewhere on another machine, unless the numbers
    of images tell that they are not.

    Raises:
      UserError: nothing is kept there, or a run has other settings or images than the plan's; nothing was written.
    """
    document, records = _read(source), []
    wanted = finished(document) & set(plan.runs())
    for run in document["runs"]:
        variant, seed = run["variant"], run["seed"]
        own = runs.read(runs.folder_of(root, variant, seed))
        if (variant, seed) not in wanted or (own and own["status"] != "failed"):
            continue
        config = plan.config(variant, seed)
        changes = _changes(document["variants"][variant]["config"] | {"seed": seed}, config)
        if changes:
            raise UserError(f"--import={source}: variant {variant} was run with other settings ({'; '.join(changes)})")
        _check_images(run["results"], config, source)
        records.append((run, config_lib.to_dict(config)))
    for run, config in records:
        _put(runs.folder_of(root, run["variant"], run["seed"]), run, config)
    print(f"took over {len(records)} runs that are kept in {source}", flush=True)


def _check_images(results: Mapping[str, Any], config: config_lib.Config, source: Path) -> None:
    """UserError where a folder of the config holds more or fewer images than those that a run was measured on."""
    data, learnt = config.data, config.evaluation.train_split or config.data.train_split
    if not data.name.startswith("folder:"):
        return
    for split, key in ((learnt, "train_images"), (data.test_split, "test_images")):
        found, measured = _count(data.name, split), results.get(key)
        if found and measured and not (1 - data.max_bad_share) * found <= measured <= found:
            raise UserError(f"--import={source}: its runs had {measured} images where {data.name}[{split}] has {found}")


@functools.cache
def _count(folder: str, split: str) -> int | None:
    """How many images there are; None where they are not at hand, which a report does without."""
    try:
        return datasets.open_dataset(folder, split).num_examples
    except UserError:
        return None


def _read(folder: Path) -> summary.Document:
    return summary.read(folder / "summary.json")


def _put(folder: Path, run: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write a finished run, as far as a document holds it; last the file that says that it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[int, dict[str, float]] = {}
    for name, points in run["curves"].items():
        for step, value in points:
            rows.setdefault(step, {"step": step})[name] = value
    if "loss" in run["curves"]:
        rows[run["curves"]["loss"][-1][0]] |= run["training"]
    lines = [json.dumps(rows[step]) + "\n" for step in sorted(rows)]
    storage.write_text(folder / "metrics.jsonl", "".join(lines))
    workdir.write_json(folder / "config.json", config)
    workdir.write_json(folder / "results.json", run["results"])
    record = {"status": "finished", "seconds": run["seconds"], "machine": run["machine"], "config": config}
    workdir.write_json(folder / runs.RECORD, record | {"checkpoints_deleted": True})


def _changes(old: dict[str, Any], config: config_lib.Config) -> list[str]:
    return runs.changes(_moved(old, config_lib.to_dict(config)), config)


def _moved(old: Any, new: Any) -> Any:
    """`old`, with the places of folders of images taken from `new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {key: _moved(value, new.get(key)) for key, value in old.items()}
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        return [_moved(*pair) for pair in zip(old, new, strict=True)]
    folders = all(isinstance(value, str) and value.startswith("folder:") for value in (old, new))
    return new if folders else old
