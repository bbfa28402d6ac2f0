"""Checkpoints of a run: asynchronous, pruned by rule, and a damaged newest one costs no more than itself."""

import contextlib
import errno
import functools
import itertools
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from orbax.checkpoint import v1 as ocp

from ncl_jax import storage, workdir
from ncl_jax.errors import UserError, first_line

Tree = TypeVar("Tree")
_LOST = r"^[A-Z_]+: (Gloo|NCCL)|DEADLINE_EXCEEDED|[Tt]imeout waiting at barrier|[Bb]arrier timed out"
# Orbax logs the errors that it raises, too, and what it cannot read of damaged metadata.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname or record.levelno < logging.WARNING)
_policies = ocp.training.preservation_policies
# Else every device writes a slice of what all of them hold, and each slice of each shape is a program to compile first.
_whole = ocp.options.ArrayOptions.Saving(use_replica_parallel=False)
_context = ocp.Context(array_options=ocp.options.ArrayOptions(saving=_whole))


class Checkpoints:
    """The folder `checkpoints` of a workdir. Use as a context manager: leaving it waits for the last save.

    `reading`: nothing in the folder is touched, for a run may be at work in it.
    """

    def __init__(self, run_dir: Path | str, *, keep: int = 2, keep_every_steps: int = 0, reading: bool = False) -> None:
        self.folder, self._reading = storage.locate(run_dir) / "checkpoints", reading
        rules: list[Any] = [_policies.LatestN(keep)]
        if keep_every_steps:
            rules.append(_policies.EveryNSteps(keep_every_steps))
        policy: Any = _policies.AnyPreservationPolicy(rules)
        folder: Any = self.folder
        with storage.reaching(folder):
            self._checkpointer = ocp.training.Checkpointer(
                folder, context=_context, preservation_policy=policy, cleanup_tmp_directories=not reading
            )
        config = self.folder.parent / "config.json"
        self._mark = config if config.exists() else None  # a folder without it is not the run's any more
        self._saving: Any = None
        # Donated buffers of the next step may be the very memory that an asynchronous save still reads.
        self._copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What else goes wrong while the run stops for a reason of its own is not told.
        with self._writing() if kind is None else contextlib.suppress(Exception):
            self._settle()
            self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, oldest first."""
        return [entry.step for entry in self._checkpointer.checkpoints]

    def save(self, step: int, state: Any, notes: dict[str, Any], *, wait: bool = False) -> None:
        """Start saving `state` with JSON `notes`, which are not empty; a step that stands already is left alone.

        Raises:
          UserError: this one, or the one before it, cannot be written.
        """
        copy = self._copy(state)
        with self._writing():
            # Orbax would begin a new folder, and the rest of the run would be lost; or wait minutes for one that it
            # cannot write. The new one of a save that the folder was moved under has all but what the run put there.
            if self._mark is not None:
                self._mark.stat()
            if not storage.in_bucket(self.folder):
                tempfile.TemporaryFile(dir=self.folder).close()
            if step not in self.steps:
                self._settle()
                self._saving = self._checkpointer.save_async(step, copy, force=True, custom_metadata=notes)
            if wait:
                self._settle()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Whatever the file system, tensorstore or orbax say of a folder that cannot be written, as a UserError."""
        try:
            yield
        except Exception as error:
            if lost := _lost_process(error):
                raise jax.errors.JaxRuntimeError(lost) from error
            kept = workdir.kept_steps(self.folder.parent)
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise UserError(
                f"{self.folder}: a checkpoint cannot be written ({_reason(error)}); {last}; make room or mend the "
                "folder, then the same command goes on from there"
            ) from error

    def _settle(self) -> None:
        """Wait for the save that is under way; one whose result is not asked for keeps a thread and three handles."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def notes(self) -> dict[str, Any]:
        """The JSON saved beside the newest checkpoint that has one that can be read."""
        for step in reversed(self.steps):
            with contextlib.suppress(Exception):
                return _notes(self._checkpointer.metadata(step))
        raise UserError(f"{self.folder}: no checkpoint can be read (steps {self.steps})")

    def restore(
        self, abstract: Tree, sharding: Sharding | Tree, *, data: Mapping[str, int] | None = None
    ) -> tuple[Tree, dict[str, Any]] | None:
        """The newest checkpoint that can be read, as (state, notes); None where there is none.

        `sharding`: one for all arrays, or a tree of them; it need not be what the checkpoint was saved from.
        `data`: what the notes must say of the data, where they do.

        One that is damaged, for any of the processes, is reported and (unless `reading`) set aside as
        `checkpoint_STEP.damaged`, and all take the one before it.

        Raises:
          UserError: there are checkpoints and none can be read, this machine is what keeps the newest from being, or
            it is of other data or of another state than `abstract`.
        """
        _hush()
        where = jax.tree.map(lambda _: sharding, abstract) if isinstance(sharding, Sharding) else sharding
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, where)
        steps = self.steps
        for step in reversed(steps):
            loaded, other, last = None, "", None
            try:
                metadata = self._checkpointer.metadata(step)
                notes = _notes(metadata)
                other = _other_data(notes, data or {}) or _other_state(metadata.metadata, target)
                loaded = None if other else (self._checkpointer.load(step, target), notes)
            except Exception as error:  # whatever the file system, tensorstore or orbax make of broken files
                last = error
            if other:
                raise UserError(f"{self.folder / str(step)}: {other}; leave that as it was, or choose another workdir")
            # An object of a bucket is whole or not there: what cannot be read of it is out of reach, not damaged.
            unreached = storage.in_bucket(self.folder) and last and not _lost_process(last)
            if last and (unreached or _here(last)):
                raise UserError(
                    f"{self.folder / str(step)}: cannot be read here ({_reason(last)}); mend that, or move the folder "
                    "away to go on from the checkpoint before"
                ) from last
            lost = last and _lost_process(last)
            reason = _reason(last) if last and not lost else "another process could not read it"
            if not _somewhere(bool(last) and not lost):
                if lost:
                    raise jax.errors.JaxRuntimeError(lost) from last
                return loaded
            if step == steps[0]:
                raise UserError(
                    f"{self.folder}: no checkpoint can be read (steps {steps}); the last error: {reason}"
                ) from last
            what = "cannot be read" if self._reading else "is damaged and set aside"
            warnings.warn(f"checkpoint {self.folder / str(step)} {what}: {reason}", stacklevel=2)
            if not self._reading:
                self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            names = (f"checkpoint_{step}.damaged{number or ''}" for number in itertools.count())
            free = next(name for name in names if not (self.folder.parent / name).exists())
            (self.folder / str(step)).rename(self.folder.parent / free)
        if jax.process_count() > 1:  # one that still listed it would not save that step again
            multihost_utils.sync_global_devices(f"checkpoint {step} is set aside")
        self._checkpointer.reload()


@functools.cache
def _hush() -> None:
    """At the first array that it cannot read orbax closes its event loop under the reads that are still under way, and
    each of them tells so with a traceback, hundreds of lines in all, then or when it is collected."""
    tell = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if str(lost.exc_value) == "Event loop is closed" else tell(lost)
    reads = re.compile("async_deserialize|tensorstore_spec")
    logging.getLogger("asyncio").addFilter(lambda record: not reads.search(record.getMessage()))


def _notes(metadata: Any) -> dict[str, Any]:
    if not metadata.custom_metadata:  # without the position in the data a run would go on, and not to the same bits
        raise ValueError("its metadata is damaged")
    return dict(metadata.custom_metadata)


def _other_data(notes: Mapping[str, Any], data: Mapping[str, int]) -> str:
    """How the data of a run have changed since, in words; empty where they have not, or old notes do not say."""
    changes = [f"{name} {notes[name]} -> {now}" for name, now in data.items() if notes.get(name, now) != now]
    return f"was trained on other data ({', '.join(changes)})" if changes else ""


def _other_state(saved: Any, target: Any) -> str:
    """The first array in which a checkpoint's tree differs from the target's, in words; else, and where its metadata
    are damaged, empty."""
    if saved is None:
        return ""
    old, new = _shapes(saved), _shapes(target)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            return f"holds another state than this config's ({name}: {old.get(name)} -> {new.get(name)})"
    return ""


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # is saved as the numbers that it is made of
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        shapes[jax.tree_util.keystr(path, simple=True, separator="/")] = tuple(leaf.shape)
    return shapes


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _here(error: BaseException) -> bool:
    """Whether reading failed for want of memory, handles or permission: no fault of what was to be read."""
    return any(
        isinstance(seen, (MemoryError, PermissionError))
        or re.match(r"(RESOURCE_EXHAUSTED|PERMISSION_DENIED)\b", str(seen))
        or (isinstance(seen, OSError) and seen.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE))
        for seen in _behind(error)
    )


def _somewhere(here: bool) -> bool:
    """Whether it is so for any process."""
    return here if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(here))))


def _lost_process(error: BaseException) -> str | None:
    """What a collective said whose other end is gone, or a barrier that another did not come to: no fault of the
    folder. It may come as an error of any type."""
    for seen in _behind(error):
        if isinstance(seen, jax.errors.JaxRuntimeError) or re.search(_LOST, str(seen)):
            return str(seen)
    return None


def _reason(error: BaseException) -> str:
    """The first line of an error, or of what the system or tensorstore said where that is behind it."""
    for seen in _behind(error):
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
        if os.strerror(number) in str(error):  # tensorstore tells its own operations before it
            return os.strerror(number)
    for seen in _behind(error):  # what is wrong comes last, behind what it was read for, and that for
        if found := re.search(r".*Error reading (.+?)(?: \[tensorstore_spec|$)", str(seen)):
            return found[1]
    return first_line(error)
