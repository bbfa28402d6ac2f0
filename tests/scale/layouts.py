"""Four steps of the tiny run, half of them from a checkpoint of another layout; also as one process of several:

`python layouts.py COORDINATOR COUNT INDEX SOURCE TARGET OUTPUT` goes on from SOURCE, saves to TARGET, writes an npz.
"""

import os
import sys
from pathlib import Path

HALF, WHOLE = 2, 4  # further ones magnify rounding: each ReLU that it turns over moves whole gradients


def steps(devices, source, target, *, split=False):
    """(losses, parameters after the first step, at the end, the target's): HALF of the steps from fresh, saved to
    `target`, the others from `source`."""
    import jax
    from tiny_step import batch, make

    from ncl_jax import parallel
    from ncl_jax.checkpoint import Checkpoints

    run, current = make(devices, **{"model.bn_groups": 8, "optim.shard_state": split})
    where = jax.tree.map(lambda x: x.sharding, current)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), current)
    rows = parallel.batch_sharding(parallel.data_mesh(jax.devices()[:devices]))
    losses, first = [], None
    for number in range(WHOLE):
        if number == HALF:
            with Checkpoints(target) as checkpoints:
                checkpoints.save(number, current, {"step": number}, wait=True)
            if source is not None:
                with Checkpoints(source) as checkpoints:
                    current, _ = checkpoints.restore(abstract, where)
        placed = {
            name: jax.make_array_from_callback(value.shape, rows, lambda index, value=value: value[index])
            for name, value in batch(number, permuted=True).items()
        }
        current, metrics = run(current, placed)
        losses.append(float(metrics["loss"]))
        if number == 0:
            first = whole(current.params, devices)
    return losses, first, whole(current.params, devices), whole(current.extra["target"]["params"], devices)


def whole(tree, devices):
    import jax

    from ncl_jax import parallel

    return flat(jax.device_put(tree, parallel.replicated(parallel.data_mesh(jax.devices()[:devices]))))


def flat(tree):
    import jax
    import numpy as np

    return np.concatenate([np.ravel(x.addressable_data(0)) for x in jax.tree.leaves(tree)])


if __name__ == "__main__":
    coordinator, count, index, source, target, output = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ["JAX_PLATFORMS"] = "cpu"
    from ncl_jax import parallel

    parallel.initialize(coordinator, int(count), int(index))
    import jax
    import numpy as np

    losses, first, params, kept = steps(jax.device_count(), source, target)
    np.savez(output, losses=losses, first=first, params=params, target=kept, devices=jax.device_count())
