"""`ncl-jax convert`: between checkpoints of other frameworks and the workdirs of this one. It says what it finds."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ncl_jax import methods, optim, parallel, state, storage, workdir
from ncl_jax.checkpoint import Checkpoints
from ncl_jax.config import Config
from ncl_jax.convert import layouts, run_state, verify, writers
from ncl_jax.convert.network import Network
from ncl_jax.data import datasets, rows
from ncl_jax.errors import UserError
from ncl_jax.evaluation import protocol

_SHOWN = 3  # ignored keys that are named


def run(
    source: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    layout: str = "torchvision",
    config: Config | None = None,
    stem: str | None = None,
    check: bool = False,
) -> None:
    """Tell what `source`, a checkpoint file or a run's workdir, holds; write it to `output` where there is one.

    `output` is a file of `layout` or, with a `config`, a new workdir whose run goes on from the source (`start_run`).
    `check` computes what was read, and again what was written, with PyTorch's operators (`verify`).

    Raises UserError, one line, for what cannot be read, held or written, and for differences.
    """
    if output is not None and config is None:
        writers.check_layout(layout)
    source = storage.path(source)
    if storage.in_bucket(source) or (source / "checkpoints").is_dir():
        if stem is not None:
            raise UserError("--stem: is for a file; a run's config says how its stem is")
        if check and (output is None or config is not None):
            raise UserError("--verify: a run is verified as it is written to a file; name one, without --config")
        network, tensors = load_run(source), None
        print(f"{source}: a run of ncl_jax: {network.describe()}")
    else:
        network, tensors = layouts.load(source, stem=stem)
        print(f"{source}: {network.layout}: {network.describe()}")
        if network.ignored:
            some = ", ".join(network.ignored[:_SHOWN]) + (", ..." if len(network.ignored) > _SHOWN else "")
            print(f"not used: {len(network.ignored)} tensors ({some})")
    if check and tensors is not None:
        _say_differences(f"{source} in JAX and PyTorch", verify.verify(network, tensors))
    if output is None:
        return
    if config is not None:
        for line in start_run(network, config, output):
            print(line)
        return
    for line in writers.save_torch(network, output, layout):
        print(line)
    print(f"wrote {output} (layout {layout})")
    if check:
        written, tensors = layouts.load(output, stem=network.stem)
        verify.check_equal(written, network)
        _say_differences(f"{output} in JAX and PyTorch", verify.verify(written, tensors))


def load_run(folder: str | os.PathLike) -> Network:
    """The newest good checkpoint of a run's workdir; of MoCo with queue, target and SGD's momentum as well.

    Raises UserError where there is none.
    """
    folder = storage.locate(folder)
    config = workdir.read_config(folder)
    current, notes = protocol.restore(config, folder, parallel.data_mesh())
    sgd = config.optim.name == "sgd" and config.optim.momentum > 0
    return run_state.from_run(
        current.params,
        current.extra,
        current.optimizer if sgd else None,
        stem=config.model.stem,
        ema=_ema(config, current.extra),
        epoch=notes.get("position", {}).get("epoch"),
        test_size=(config.evaluation.resize, config.data.image_size),
        sgd=_sgd(config),
    )


def start_run(network: Network, config: Config, folder: str | os.PathLike) -> list[str]:
    """A checkpoint in the new workdir `folder` from which `pretrain` and `evaluate` with `config` go on.

    A MoCo checkpoint with its optimiser goes on at its epoch, where the config is MoCo's with SGD; anything else starts
    a run at epoch 0 with what it has of the config's networks, key encoder and queue. Returns lines that tell what came
    from where.

    Raises UserError where the network is not the config's, or `folder` holds a run already.
    """
    _check_model(network, config)
    # Before anything is written there, and not through Checkpoints, which tidies up: a run may be at work.
    run_dir = storage.locate(folder)
    with storage.reaching(run_dir):
        steps = workdir.kept_steps(run_dir)
    if steps:
        raise UserError(f"{run_dir}: holds a run already (step {steps[-1]}); choose another workdir")
    if config.optim.name != "sgd":
        network = dataclasses.replace(network, momentum=None)
    mesh = parallel.data_mesh()
    data = datasets.open_dataset(config.data.name, config.data.train_split, data_dir=config.data.data_dir)
    data.need_batch(config.batch)
    steps_per_epoch = data.num_examples // config.batch
    total = config.epochs * steps_per_epoch
    method, optimizer = methods.build(config, total), optim.optimizer(config, steps_per_epoch)
    num_classes = rows.classes(data)
    fresh = state.create(config, method, optimizer, num_classes=num_classes, mesh=mesh)
    goes_on = "queue" in fresh.extra and network.layout == "MoCo" and network.momentum is not None
    epoch = (network.epoch or 0) if goes_on else 0
    step = epoch * steps_per_epoch
    optimizer_state = fresh.optimizer if goes_on else None
    if "queue" in fresh.extra and network.queue is not None:
        network = _aligned(network, config.method.keys_per_step(config.batch))
    params, extra, optimizer_state = run_state.to_run(
        network, fresh.params, fresh.extra, optimizer_state, step=step, ema=_ema(config, fresh.extra)
    )
    current = dataclasses.replace(
        fresh, step=np.asarray(step, np.int32), params=params, extra=extra, optimizer=optimizer_state or fresh.optimizer
    )
    with workdir.claim(run_dir, config), Checkpoints(run_dir) as checkpoints:
        notes: dict[str, Any] = {"num_classes": num_classes, "num_examples": data.num_examples}
        notes["position"] = {"epoch": epoch, "offset": 0}
        checkpoints.save(step, jax.device_put(current, parallel.replicated(mesh)), notes, wait=True)
    return _told(network, config, fresh, goes_on, epoch, folder)


def _ema(config: Config, extra: Mapping[str, Any]) -> float | None:
    """The constant momentum of MoCo's key encoder; the other methods have none that PyTorch's MoCo could go on with."""
    return config.method.momentum if "queue" in extra else None


def _sgd(config: Config) -> dict[str, float]:
    """SGD's settings by PyTorch's names; the learning rate is the schedule's peak, as MoCo's scripts want it."""
    if config.optim.name != "sgd":
        return {}
    return {
        "lr": config.learning_rate,
        "momentum": config.optim.momentum,
        "weight_decay": config.optim.weight_decay,
    }


def _aligned(network: Network, keys: int) -> Network:
    """The queue turned until the pointer is a multiple of the `keys` of a step: where the file's steps were smaller,
    a step here would reach over the queue's end, and some rows would never be written again."""
    assert network.queue is not None
    shift = network.pointer % keys
    return dataclasses.replace(network, queue=np.roll(network.queue, -shift, axis=0), pointer=network.pointer - shift)


def _check_model(network: Network, config: Config) -> None:
    for key, found, wanted in (
        ("name", network.architecture, config.model.name),
        ("width", network.width, config.model.width),
        ("stem", network.stem, config.model.stem),
    ):
        if found != wanted:
            raise UserError(
                f"config.model.{key} = {wanted!r}: the checkpoint's is {found!r}; set --config.model.{key}={found}"
            )
    if network.padding != "torch":
        raise UserError(f"the checkpoint's network pads otherwise ({network.padding}); runs pad as PyTorch does")


def _told(network: Network, config: Config, fresh: Any, goes_on: bool, epoch: int, folder: Any) -> list[str]:
    taken = ["backbone", *(name for name in network.heads if name in fresh.params)]
    taken += [name for name in ("target", "queue") if name in fresh.extra and getattr(network, name) is not None]
    taken += ["momentum"] if goes_on else []
    new = [name for name in (*fresh.params, "queue") if name not in taken and (name != "queue" or name in fresh.extra)]
    lines = [f"from the checkpoint: {', '.join(taken)}" + (f"; fresh: {', '.join(new)}" if new else "")]
    if goes_on:
        ours = _sgd(config)
        lines += [
            f"SGD's {name} was {value:g}, the config has {ours[name]:g}"
            for name, value in network.sgd.items()
            if name != "lr" and name in ours and not np.isclose(value, ours[name])
        ]
    way = f"goes on at epoch {epoch} of {config.epochs}" if goes_on else "starts at epoch 0"
    lines.append(f"wrote {folder}: ncl-jax pretrain with the same --config and --workdir={folder} {way}")
    return lines


def _say_differences(what: str, differences: Mapping[str, tuple[float, float]]) -> None:
    parts = [
        f"{name} {found:.1e}" + (f" (allowed {allowed:.1e})" if found > verify.TOLERANCE else "")
        for name, (found, allowed) in differences.items()
    ]
    print(f"verified: {what} differ at most by: {', '.join(parts)}")
