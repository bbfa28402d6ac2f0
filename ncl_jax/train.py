"""The pretraining loop, from top to bottom."""

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ncl_jax import feed, methods, metrics, optim, parallel, preview, progress, signals, state, step, workdir
from ncl_jax.checkpoint import Checkpoints
from ncl_jax.config import Config
from ncl_jax.data import datasets, rows, stream
from ncl_jax.errors import UserError
from ncl_jax.evaluation import protocol

# Steps that may wait on the device: enough to hide the host, few enough to bound the memory of their batches.
_IN_FLIGHT = 2

# A standard deviation of the embeddings (`contract.health`) below which they are all one, whatever rank the rest has.
_ONE_POINT = 0.1


def pretrain(config: Config, folder: str, *, profile: bool = False) -> dict[str, Any] | None:
    """Pretrain as `config` says in `folder`, going on where an earlier run of it stopped; then evaluate.

    Returns what `results.json` holds, or None when SIGTERM ended the run early, with everything saved.

    Raises:
      UserError: bad input, before any compute is spent; or a loss that is no longer finite.
      KeyboardInterrupt: Ctrl-C ended the run early, with everything saved.
    """
    mesh, data, encoder = prepare(config)
    with workdir.claim(folder, config) as run_dir:
        finished = _train(config, run_dir, data, mesh, encoder, profile=profile)
        if finished is None:
            return None
        return protocol.evaluate_run(finished, run_dir)


def prepare(
    config: Config, *, say: Callable[[str], None] | None = None
) -> tuple[Mesh, datasets.Dataset, protocol.Encoder]:
    """Open all that a run reads and check that it fits, before any compute; UserError where it does not.

    `say` is told of test sets that are not there; without it they are printed.
    """
    mesh = parallel.data_mesh()
    parallel.check_batch(config.batch, mesh, config.optim.accumulate)
    data = stream.open_train(config).need_batch(config.batch)
    feed.check(config, data, mesh)
    encoder = protocol.Encoder(config, mesh)
    protocol.check(protocol.Subject(encoder, {}, say=say or protocol.speaker()))
    return mesh, data, encoder


def _train(
    config: Config, run_dir: Path, data: datasets.Dataset, mesh: Mesh, encoder: protocol.Encoder, *, profile: bool
) -> protocol.Subject | None:
    """The encoder after the last step, with what was measured of it; None when SIGTERM came before that."""
    steps_per_epoch = data.num_examples // config.batch
    total_steps = config.epochs * steps_per_epoch
    chief = jax.process_index() == 0

    with contextlib.ExitStack() as stack:
        # What is learnt: fresh, or as the newest good checkpoint has it.
        method = methods.build(config, total_steps)
        optimizer = optim.optimizer(config, steps_per_epoch)
        num_classes = rows.classes(data)
        keep_every = config.checkpoint.keep_every_epochs * steps_per_epoch
        checkpoints = stack.enter_context(
            Checkpoints(run_dir, keep=config.checkpoint.keep, keep_every_steps=keep_every)
        )
        target = state.abstract(config, method, optimizer, num_classes=num_classes)
        where = state.shardings(config, target, mesh)
        known = {"num_classes": num_classes, "num_examples": data.num_examples}
        current, notes = checkpoints.restore(target, where, data=known) or (None, {})
        done = int(current.step) if current else 0

        # What tells of it.
        unmeasured = _due(config, done, steps_per_epoch) and not _measured(run_dir, done)
        if current and done >= total_steps and not unmeasured:
            return protocol.subject_of(encoder, current)
        report = stack.enter_context(_Report(config, run_dir, total_steps, done)) if chief else None
        if current and unmeasured:  # a kill came after the save and before this
            finished = _measure(encoder, current, done, done // steps_per_epoch, report)
            if done >= total_steps:
                return finished

        # What feeds it: batches that are on the devices before the step asks for them.
        train_step = step.make_step(config, method, optimizer, steps_per_epoch=steps_per_epoch)
        opened = feed.open_feed(config, data, mesh, train_step, target, notes.get("position"))
        steps = stack.enter_context(opened)
        if config.data.cache == "device":  # nothing else is read any more
            stack.enter_context(protocol.Subject(encoder, {}).reading_ahead())
        # Made only now: the feed may be compiling the step meanwhile.
        current = current or state.create(config, method, optimizer, num_classes=num_classes, mesh=mesh)

        if report:
            report.start(current)
        trace = stack.enter_context(metrics.profile(run_dir)) if profile and chief else None
        stop = stack.enter_context(signals.stops())

        means, timer, in_flight = metrics.Means(), _Timer(), deque()
        pending: tuple[int, Any, dict[str, float]] | None = None
        calls, finished = 0, None
        while done < total_steps:
            # One step, or all up to the next line of the log where the data lie on the devices.
            current, scalars, taken = steps.take(current, config.log_every - done % config.log_every)
            done, calls = done + taken, calls + 1
            timer.steps += taken
            means.add(scalars)
            in_flight.append(scalars["loss"])
            if len(in_flight) > _IN_FLIGHT:
                in_flight.popleft().block_until_ready()
            if trace:
                trace(done)

            # The step is on its way: now there is time to fetch what the interval before it left.
            if pending:
                _log(pending, report, checkpoints)
                pending = None
            stopping = _agree_to_stop(stop, calls)
            epoch_end = done % steps_per_epoch == 0
            epoch = done // steps_per_epoch
            if done % config.log_every == 0 or epoch_end or stopping:
                speed = timer.take(config.batch, steps.waited)
                pending = (done, means.take(), speed | {"skipped_records": float(steps.skips)})
            if report:
                report.bar.update(done)

            last = done == total_steps
            saving = stopping or last or (epoch_end and epoch % config.checkpoint.every_epochs == 0)
            if saving and pending:  # only a state with a finite loss, and finite weights, is worth keeping
                _log(pending, report, checkpoints)
                pending = None
            with timer.paused():
                if saving:
                    _check_finite(current, done, checkpoints)
                    if report:
                        report.flush()
                    checkpoints.save(done, current, {"position": dict(steps.position)} | known, wait=stopping)
                if _due(config, done, steps_per_epoch) and not stopping:
                    finished = _measure(encoder, current, done, epoch, report)
                    if not last:  # it holds the features of all images
                        finished = None
            if stopping or (last and stop):
                by = "Ctrl-C" if signal.SIGINT in stop else "SIGTERM"
                if report:
                    report.bar.say(f"{by}: saved step {done} of {total_steps}; the same command goes on from there")
                if signal.SIGINT in stop:
                    raise KeyboardInterrupt
                return None
        return finished or protocol.subject_of(encoder, current)


def _due(config: Config, done: int, steps_per_epoch: int) -> bool:
    """Whether the encoder is measured after this step: the last one too, so that curves end where the results are."""
    every = config.evaluation.every_epochs * steps_per_epoch
    return bool(every) and done > 0 and (done % every == 0 or done == config.epochs * steps_per_epoch)


def _measured(run_dir: Path, done: int) -> bool:
    """Whether it was, as the first process's log says: on all processes the same."""
    log = metrics.read(run_dir / "metrics.jsonl") if jax.process_index() == 0 else []
    there = np.array(any(row["step"] == done and "loss" not in row for row in log))
    return bool(there if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(there))


def _measure(
    encoder: protocol.Encoder, current: state.TrainState, done: int, epoch: int, report: "_Report | None"
) -> protocol.Subject:
    subject = protocol.subject_of(encoder, current)
    measured = protocol.online(subject)
    if report and measured:
        report.write(done, {measure.key: measure.value for measure in measured})
        shown = ", ".join(f"{measure.title} {measure}" for measure in measured)
        report.bar.say(f"epoch {epoch}: {shown}")
    return subject


def _log(pending: tuple[int, Any, dict[str, float]], report: "_Report | None", checkpoints: Checkpoints) -> None:
    """Fetch an interval's means, stop on a loss that is not finite, write the rest."""
    done, collection, speed = pending
    scalars = metrics.Means.fetch(collection)
    if not np.isfinite(scalars["loss"]):
        raise _diverged(f"the loss is {scalars['loss']}", done, checkpoints)
    if report:
        report.interval(done, scalars | speed)


def _check_finite(current: state.TrainState, done: int, checkpoints: Checkpoints) -> None:
    """UserError where the last update blew the weights up: its loss was taken before."""
    square = float(_square(current.params))
    if not np.isfinite(square):
        raise _diverged(f"the squared norm of the weights is {square}", done, checkpoints)


@jax.jit
def _square(params: Any) -> jax.Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)), jnp.zeros(()))


def _diverged(what: str, done: int, checkpoints: Checkpoints) -> UserError:
    good = f"step {checkpoints.steps[-1]} in {checkpoints.folder}" if checkpoints.steps else "none"
    return UserError(
        f"{what} at step {done}; last good checkpoint: {good}; lower config.optim.learning_rate or a negative's alpha"
    )


class _Report:
    """All that process 0 writes while the run goes: event files, the bar, warnings."""

    def __init__(self, config: Config, run_dir: Path, total_steps: int, done: int):
        self._config, self._run_dir, self._done = config, run_dir, done
        self._writer = metrics.writer(run_dir, done)
        self._collapsed = False
        self.bar = progress.Bar(total_steps, done)

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self._writer.close()

    def start(self, current: state.TrainState) -> None:
        if self._done:
            self.bar.say(f"going on from step {self._done}")
        else:
            (self._run_dir / "parameters.txt").write_text(metrics.overview(current.params) + "\n")
            count = sum(leaf.size for leaf in jax.tree.leaves(current.params))
            self.bar.say(f"{self._config.model.name}: {count / 1e6:.2f} M parameters (listed in parameters.txt)")
            preview.write(self._config, self._run_dir / "negatives.png")
        if jax.default_backend() == "gpu":  # on an H200 22 s for a ResNet-50
            self.bar.say("compiling the step: XLA tries many kernels on the GPU, which takes half a minute or more")

    def interval(self, done: int, scalars: dict[str, float]) -> None:
        self.write(done, scalars)
        shown = ("loss", "contrast_top1", "similarity_ns", "online_top1", "images_per_second")
        self.bar.update(done, {name: scalars[name] for name in shown if name in scalars})
        least, before = self._config.collapse_rank, self._collapsed
        rank, spread = scalars["effective_rank"], scalars["feature_std"]
        # Told once, until it recovers by so much that it is not told at every turn about the limit.
        slack = 1.5 if before else 1.0
        self._collapsed = least > 0 and (rank < slack * least or spread < slack * _ONE_POINT)
        if self._collapsed and not before:
            self.bar.say(
                f"warning: the embeddings collapse (effective rank {rank:.2f}, config.collapse_rank = {least:g}; "
                f"standard deviation {spread:.2f} of 1); try {', '.join(methods.against_collapse(self._config))}"
            )

    def write(self, done: int, scalars: dict[str, float]) -> None:
        self._writer.write_scalars(done, scalars)

    def flush(self) -> None:
        """A checkpoint comes: what the log has of the steps before is kept as well."""
        self._writer.flush()


@dataclasses.dataclass
class _Timer:
    """Seconds of an interval: all of them, those spent waiting for input, less those that were paused."""

    began: float = dataclasses.field(default_factory=time.perf_counter)
    waited: float = 0.0
    steps: int = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.began += time.perf_counter() - start

    def take(self, batch: int, waited: float) -> dict[str, float]:
        """The interval's figures, and start anew; `waited` is the sum since the run began."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        speed = {
            "images_per_second": self.steps * batch / seconds,
            "step_ms": 1e3 * seconds / self.steps,
            "input_wait_share": (waited - self.waited) / seconds,
        }
        self.began, self.waited, self.steps = time.perf_counter(), waited, 0
        return speed


def _agree_to_stop(came: list[int], calls: int) -> bool:
    """All processes stop after the same step. `calls` counts by one: the processes agree on a number yet to come, and
    the steps that one call takes from a cache could pass over it."""
    if jax.process_count() == 1:
        return bool(came)
    return multihost_utils.reached_preemption_sync_point(calls)
