"""Checkpoints of a run: asynchronous, pruned by rule, and a damaged newest one costs no more than itself."""

import logging
import warnings
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Sharding
from orbax.checkpoint import v1 as ocp

from ncl_jax.errors import UserError

Tree = TypeVar("Tree")
_log = logging.getLogger(__name__)
_policies = ocp.training.preservation_policies


class Checkpoints:
    """The folder `checkpoints` of a workdir. Use as a context manager: leaving it waits for the last save."""

    def __init__(self, workdir: Path | str, *, keep: int = 2, keep_every_steps: int = 0):
        self.folder = Path(workdir).resolve() / "checkpoints"
        rules: list[Any] = [_policies.LatestN(keep)]
        if keep_every_steps:
            rules.append(_policies.EveryNSteps(keep_every_steps))
        policy: Any = _policies.AnyPreservationPolicy(rules)
        folder: Any = self.folder
        self._checkpointer = ocp.training.Checkpointer(folder, preservation_policy=policy, cleanup_tmp_directories=True)
        # Donated buffers of the next step may be the very memory that an asynchronous save still reads.
        self._copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, oldest first."""
        return [entry.step for entry in self._checkpointer.checkpoints]

    def save(self, step: int, state: Any, notes: dict[str, Any], *, wait: bool = False) -> None:
        """Start saving `state` with JSON `notes`; a step that stands already is left alone."""
        if step not in self.steps:
            self._checkpointer.save_async(step, self._copy(state), force=True, custom_metadata=notes)
        if wait:
            self._checkpointer.wait()

    def notes(self, step: int | None = None) -> dict[str, Any]:
        """The JSON saved beside a checkpoint, the newest by default."""
        saved: Any = self._checkpointer.metadata(step).custom_metadata
        return dict(saved or {})

    def restore(self, abstract: Tree, sharding: Sharding | Tree) -> tuple[Tree, dict[str, Any]] | None:
        """The newest checkpoint that can be read, as (state, notes); None where there is none.

        `sharding`: one for all arrays, or a tree of them; it need not be what the checkpoint was saved from.

        A damaged one is reported and set aside as `STEP.damaged`, and the one before it is taken.

        Raises:
          UserError: there are checkpoints and none can be read.
        """
        where = jax.tree.map(lambda _: sharding, abstract) if isinstance(sharding, Sharding) else sharding
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, where)
        steps = self.steps
        for step in reversed(steps):
            try:
                state = self._checkpointer.load(step, target)
                return state, self.notes(step)
            except Exception as error:  # whatever the file system, tensorstore or orbax make of broken files
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                last = error
            if step == steps[0]:
                raise UserError(
                    f"{self.folder}: no checkpoint can be read (steps {steps}); the last error: {reason}"
                ) from last
            warnings.warn(f"checkpoint {self.folder / str(step)} is damaged and set aside: {reason}", stacklevel=2)
            self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            folder = self.folder / str(step)
            folder.rename(self.folder.parent / f"checkpoint_{step}.damaged")
        self._checkpointer.reload()
