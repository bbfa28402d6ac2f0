"""A config's step compiled for 8 simulated devices, in a process that sees them: what each computes and sends.

`python -m ncl_jax.benchmark.sharded` reads a config (JSON) and writes what it found (JSON).
"""

import dataclasses
import json
import math
import os
import sys
from typing import Any

import jax

from ncl_jax import config as config_lib
from ncl_jax import methods, negatives, parallel, state  # noqa: F401  (these bring their settings)
from ncl_jax.benchmark import collectives, flops, interpreter, program, random_batch, traffic
from ncl_jax.config import Config
from ncl_jax.errors import UserError

DEVICES = 8


def describe(config: Config) -> dict[str, Any]:
    """`flops` of a device, `collectives` (kind -> bytes of each) and `least` (what -> bytes, of `traffic`) of the step
    over DEVICES, compiled elsewhere."""
    if config.batch % DEVICES:
        raise UserError(f"config.batch = {config.batch}: no multiple of the {DEVICES} devices of the compiled program")
    if config.optim.accumulate > 1:  # of what a loop sends its program tells once
        raise UserError(f"config.optim.accumulate = {config.optim.accumulate}: is not in this model; use 1")
    if config.optim.shard_state:  # weights are then gathered, which do not grow with the batch
        raise UserError("config.optim.shard_state = True: is not in this model; use False")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    found = interpreter.output(
        ["-m", "ncl_jax.benchmark.sharded"],
        what=f"compiling for {DEVICES} devices",
        given=json.dumps(config_lib.to_dict(local_groups(config))),
        environment=os.environ | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"},
    )
    return json.loads(found)


def local_groups(config: Config) -> Config:
    """The config with batch-norm groups that lie within a device each."""
    groups = math.lcm(config.model.bn_groups, DEVICES)
    if config.batch % groups:
        groups = DEVICES
    return dataclasses.replace(config, model=dataclasses.replace(config.model, bn_groups=groups))


def compile_and_count(config: Config) -> dict[str, Any]:
    """`describe`, in this process; no array is made."""
    mesh = parallel.data_mesh()
    method, optimizer, step = program.make(config)
    abstract = state.abstract(config, method, optimizer, num_classes=random_batch.CLASSES)
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in random_batch.wire(config).items()}
    traced = program.trace(config, mesh, step, abstract, batch)
    compiled = traced.lower().compile()
    return {
        "flops": flops.count(traced.jaxpr) / mesh.size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(abstract.params)),
        "collectives": collectives.sizes(compiled.as_text()),
        "least": traffic.least(config, abstract, mesh.size),
    }


if __name__ == "__main__":
    print(json.dumps(compile_and_count(config_lib.parse(json.load(sys.stdin)))))
