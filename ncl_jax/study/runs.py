"""Carrying out a plan: run after run, each resumable, none able to stop the others.

Several processes, on one machine or on many, may carry out one plan in one folder: each takes the runs that no other
is at work on.
"""

import contextlib
import json
import logging
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from ncl_jax import config as config_lib
from ncl_jax import progress, signals, train, workdir
from ncl_jax.benchmark import machine
from ncl_jax.config import Config
from ncl_jax.errors import UserError, first_line
from ncl_jax.evaluation import protocol
from ncl_jax.study.plan import Plan

RECORD = "run.json"  # in a run's folder: how it went
LOCK = ".study"  # held by the process that is at work on it

_log = logging.getLogger(__name__)
# May differ between a finished run and the plan: what it has learnt and measured stays.
_FREE = (*workdir.FREE, "evaluation.every_epochs", "evaluation.online")


class _Stop(BaseException):
    """SIGTERM came while no training step was under way."""


def folder_of(root: Path, variant: str, seed: int) -> Path:
    return root / variant / f"seed{seed}"


def read(folder: Path) -> dict[str, Any] | None:
    """What is known of a run: `status` ("finished", "failed", "stopped" or "running"), `error`, `seconds` of computing,
    `machine` (described, or a line if it was taken over), `config` and, of a finished one, `results`; None where it has
    not begun."""
    record = _json(folder / RECORD)
    if not isinstance(record, dict) or not {"status", "config"} <= record.keys():  # changed by hand
        return None
    if record["status"] == "finished":
        record["results"] = _json(folder / "results.json")
        if record["results"] is None:
            record["status"] = "stopped"
    return record


def is_finished(folder: Path, config: Config) -> bool:
    """Its results are there, and this very config gave them."""
    record = read(folder)
    return record is not None and record["status"] == "finished" and not changes(record["config"], config)


def check(plan: Plan, root: Path, only: tuple[str, ...] = ()) -> None:
    """Look at the data of every run and at what stands in its folder already. Raises UserError."""
    looked_at, lines = [], []  # variants differ in what they train with: of a set that they all miss one line is enough
    for variant, seed in plan.runs(only):
        config = plan.config(variant, seed)
        folder = folder_of(root, variant, seed)
        try:
            workdir.check_same(folder, config)
            record = read(folder)
            if record and record["status"] == "finished" and record.get("checkpoints_deleted"):
                changed = changes(record["config"], config)
                if changed:
                    raise UserError(
                        f"{folder}: its checkpoints were deleted, so it cannot be measured anew "
                        f"({'; '.join(changed)}); delete the folder to run it again"
                    )
            inputs = config_lib.to_dict(config)
            inputs = [inputs[key] for key in ("data", "evaluation", "batch", "optim", "negatives")]
            if inputs not in looked_at and not is_finished(folder, config):
                looked_at.append(inputs)
                train.prepare(config, say=lines.append)
        except UserError as error:
            raise UserError(f"variant {variant}: {error}") from error
    tell = protocol.speaker()
    for line in dict.fromkeys(lines):
        tell(line)


def carry_out(plan: Plan, root: Path, *, only: tuple[str, ...], after_each: Callable[[], None]) -> bool:
    """Run what is not finished; True where SIGTERM came first.

    A run that fails is recorded and the others go on; it is tried again when the study is started again. A run that
    another process is at work on is left to it, and so is one that has failed there meanwhile.
    """
    compilation_cache(root)
    runs, began = plan.runs(only), time.time()
    with _stopping():
        for number, (variant, seed) in enumerate(runs, start=1):
            config, folder = plan.config(variant, seed), folder_of(root, variant, seed)
            heading = f"run {number} of {len(runs)}: {variant}, seed {seed}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                held = workdir.hold(folder, LOCK)
            except workdir.Busy:
                progress.say(f"{heading}: another process is at work on it")
                continue
            with held:
                if is_finished(folder, config):
                    progress.say(f"{heading}: is finished")
                    continue
                if _failed_since(began, folder):
                    progress.say(f"{heading}: has just failed in another process")
                    continue
                progress.say(heading)
                try:
                    finished = _run(config, folder, keep_checkpoints=plan.study.keep_checkpoints)
                    after_each()
                except _Stop:
                    finished = False
            if not finished:
                progress.say(f"SIGTERM: stopped in {folder}; the same command goes on from there")
                return True
    return False


def _failed_since(began: float, folder: Path) -> bool:
    record = read(folder)
    return record is not None and record["status"] == "failed" and (folder / RECORD).stat().st_mtime > began


def compilation_cache(root: Path) -> None:
    """Keep compiled programs in the study's folder, so that seeds of a variant and resumed runs compile once."""
    configured = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not configured:  # a user's own cache serves as well
        jax.config.update("jax_compilation_cache_dir", str(root / ".compilation"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)  # an evaluation has dozens of small ones


def _run(config: Config, folder: Path, *, keep_checkpoints: bool) -> bool:
    """One run to its end, recorded; False where SIGTERM stopped it."""
    before = read(folder) or {}
    began = time.perf_counter()
    record = {"status": "running", "seconds": before.get("seconds", 0.0), "machine": machine.describe()}
    record["config"] = config_lib.to_dict(config)

    def write(status: str, **more: Any) -> None:
        seconds = record["seconds"] + time.perf_counter() - began
        workdir.write_json(folder / RECORD, {**record, "status": status, "seconds": round(seconds, 1), **more})

    write("running")
    try:
        results = train.pretrain(config, str(folder))
    except (_Stop, KeyboardInterrupt):
        write("stopped")
        raise
    except UserError as error:
        write("failed", error=str(error))
        _log.warning("failed: %s", error)
        return True
    except Exception as error:  # out of memory, a full disk: the other runs may still be well
        (folder / "error.txt").write_text(traceback.format_exc())
        reason = f"{type(error).__name__}: {first_line(error)}"
        write("failed", error=f"{reason} (whole in {folder / 'error.txt'})")
        _log.warning("failed: %s", reason)
        return True
    finally:
        jax.clear_caches()  # the next run's programs are others; all together take gigabytes
    if results is None:
        write("stopped")
        return False
    write("finished", **({} if keep_checkpoints else {"checkpoints_deleted": True}))
    if not keep_checkpoints:  # last: a run without results and checkpoints would begin anew
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def changes(old: dict[str, Any], config: Config) -> list[str]:
    """What in `config` makes another run of it than in `old`, the config of one, as a dict."""
    try:
        before = config_lib.to_dict(config_lib.parse(old))
    except UserError as error:  # of a version with other settings
        return [str(error)]
    lines = config_lib.difference(before, config_lib.to_dict(config))
    return [line for line in lines if not line.startswith(_FREE)]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Outside of training, which saves and stops by itself, SIGTERM stops at once: all that counts is on disk."""

    def stop(*_: object) -> None:
        raise _Stop

    with signals.handled({signal.SIGTERM: stop}):
        yield
