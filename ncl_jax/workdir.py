"""The folder of a run: one run at a time, one config for good."""

import contextlib
import errno
import io
import json
import logging
import math
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ncl_jax import config as config_lib
from ncl_jax import config_file, locks, storage
from ncl_jax.errors import UserError, first_line

log = logging.getLogger(__name__)

# May change between the parts of one run: they do not touch what is learnt.
FREE = ("log_every", "collapse_rank", "checkpoint.", "data.data_dir", "data.max_bad_share", "optim.shard_state")

# Of these depends what a checkpoint holds.
_STATE = ("model.name", "model.width", "model.stem", "method.", "optim.name", "optim.momentum")

# What a disk says that is full, read-only, closed to us or broken.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


# Seconds until a process must see what another has written: NFS keeps a listing for so long.
SEEN_AFTER = 60.0


class Busy(UserError):
    """Another process is at work in the folder."""


@contextlib.contextmanager
def claim(path: str | os.PathLike, config: config_lib.Config) -> Iterator[Path]:
    """Make or re-enter the workdir of `config` and keep other runs out of it.

    Raises:
      UserError: it cannot be written, another run is at work in it, or it belongs to another config.
    """
    folder = storage.locate(path)
    first = jax.process_index() == 0  # it keeps the lock for all
    try:
        with storage.reaching(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = hold(folder, ".lock") if first else contextlib.nullcontext()
    except OSError as error:
        raise UserError(f"--workdir={folder}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            _check_shared(folder)
            if first:
                check_same(folder, config)
                write_json(folder / "config.json", config_lib.to_dict(config))
            yield folder
        except OSError as error:
            ours = storage.in_bucket(folder) and error.errno is None  # gcsfs names no number
            if not ours and error.errno not in _DISK and folder.is_dir():
                raise
            reason = error.strerror or first_line(error)
            raise UserError(
                f"--workdir={folder}: cannot be written: {reason}; mend it, then the same command goes on "
                "from the last checkpoint"
            ) from error


def _check_shared(folder: Path) -> None:
    """UserError, on all processes, where one of them does not see what the first one writes there: it would have no
    checkpoint to write to or to go on from, which is found out only hours later."""
    if jax.process_count() == 1:
        return
    sign = folder / ".shared"
    token = str(multihost_utils.broadcast_one_to_all(np.array(uuid.uuid4().int % 2**31, np.int32)))
    if jax.process_index() == 0:
        storage.write_text(sign, token)
    end, seen = time.monotonic() + SEEN_AFTER, False
    while not seen and time.monotonic() < end:
        with contextlib.suppress(Exception):  # a bucket's are of any kind
            seen = sign.read_text() == token
        time.sleep(0 if seen else 0.2)
    blind = np.flatnonzero(~np.asarray(multihost_utils.process_allgather(np.array(seen))))
    if len(blind):
        raise UserError(
            f"--workdir={folder}: process {blind[0]} ({len(blind)} of {jax.process_count()} in all) does not see what "
            "process 0 writes there; name a folder that all hosts share, or gs://BUCKET/RUN"
        )


def read_config(
    path: str | os.PathLike, overrides: dict[str, Any] | None = None, *, evaluate_as: str | None = None
) -> config_lib.Config:
    """The config of an earlier run, with overrides.

    `evaluate_as`: a config file of what to measure it on instead, and how. What it leaves open is as by default, so
    that one file is one protocol for all runs; negatives that its images have no room for are left out.
    """
    file = storage.locate(path) / "config.json"
    with storage.reaching(file):
        if not file.is_file():
            raise UserError(f"--workdir={path}: holds no run (no config.json); pretrain there first")
        text = file.read_bytes()
    try:
        raw = json.loads(text)
    except ValueError as error:  # no JSON, or no text
        raise UserError(f"{file}: is damaged ({error}); delete it and start again with the run's --config") from error
    if evaluate_as is not None:
        raw.pop("evaluation", None)
        config_file.merge_evaluation(raw, evaluate_as)
    for key, value in (overrides or {}).items():
        config_file.override(raw, key, value)
    try:
        return config_lib.parse(raw if evaluate_as is None else _fitting(raw))
    except UserError as error:
        if overrides or evaluate_as is not None:  # which may be what is wrong
            raise
        raise UserError(f"{file}: {error}") from error


def _fitting(raw: dict[str, Any]) -> dict[str, Any]:
    """The nested dict without the negatives that do not fit its image size; which those are, the log says."""
    config_lib.parse({**raw, "negatives": {}})  # what else is wrong is not theirs
    negatives = config_file.named(raw.get("negatives", {}), "negatives")
    for kind, settings in tuple(negatives.items()):
        try:
            config_lib.parse({**raw, "negatives": {kind: settings}})
        except UserError as error:
            log.info("left out: the negatives %s: %s", kind, error)
            del negatives[kind]
    return {**raw, "negatives": negatives}


def write_json(path: Path, value: Any) -> None:
    """`storage.write_text` of the value as JSON, `finite`."""
    storage.write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(tree: Any) -> Any:
    """The tree with None for every number that is not finite, of which JSON knows none, and NumPy's as Python's own."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    if isinstance(tree, np.generic):
        tree = tree.item()
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def check_output(path: str | os.PathLike) -> None:
    """UserError where the file that `--output` names cannot be written; it is not touched."""
    path = storage.path(path)
    if storage.in_bucket(path):
        return
    if path.is_dir():
        raise UserError(f"--output={path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"--output={path}: there is no folder {path.parent}")
    with writing_output(path):
        tempfile.TemporaryFile(dir=path.parent).close()


@contextlib.contextmanager
def writing_output(path: str | os.PathLike) -> Iterator[None]:
    """UserError where what is written inside cannot be."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--output={path}: cannot be written: {error.strerror or error}") from error


def hold(folder: Path, name: str) -> IO[str]:
    """A file of the folder that nobody else can hold, however this process ends, until it is closed. Raises Busy.

    In a bucket, where there are no locks, that it can be written is all that is found out.
    """
    if storage.in_bucket(folder):
        storage.claim(folder)
        return io.StringIO()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context((folder / name).open("a+"))
        if not locks.hold(file):
            raise Busy(f"--workdir={folder}: another run is at work there; stop it or choose another workdir")
        stack.pop_all()
    return file


def kept_steps(folder: Path) -> list[int]:
    """The steps of the finished checkpoints in a workdir, by the names of files alone, oldest first."""
    checkpoints = folder / "checkpoints"
    steps = [path for path in checkpoints.iterdir() if path.name.isdigit()] if checkpoints.is_dir() else []
    # Orbax writes into a folder of another name and renames it, but in a bucket, where the last file says it is done.
    return sorted(int(p.name) for p in steps if not storage.in_bucket(p) or (p / "commit_success.txt").exists())


def changes(folder: Path, config: config_lib.Config) -> list[str]:
    """What the config has otherwise than the run in the folder, a line each; UserError where it asks for another state,
    which then cannot be read."""
    lines = config_lib.difference(config_lib.to_dict(read_config(folder)), config_lib.to_dict(config))
    network = [line for line in lines if line.startswith(_STATE)]
    if network:
        raise UserError(f"--workdir={folder}: its run has another network ({'; '.join(network)}); leave this as it was")
    return lines


def check_same(folder: Path, config: config_lib.Config) -> None:
    """UserError where the folder holds a run that learns something else, and has kept something of it."""
    kept = kept_steps(folder) or (folder / "results.json").exists()
    if not kept or not (folder / "config.json").exists():
        return
    old = read_config(folder)
    changes = [
        line
        for line in config_lib.difference(config_lib.to_dict(old), config_lib.to_dict(config))
        if not line.startswith((*FREE, "evaluation."))
    ]
    if changes:
        raise UserError(
            f"--workdir={folder}: belongs to a run of another config ({'; '.join(changes)}); choose another workdir"
        )
