"""The least that a step must send between devices."""

import math
from typing import Any

import jax

from ncl_jax import parallel
from ncl_jax.config import Config
from ncl_jax.state import TrainState


def least(config: Config, state: TrainState, devices: int) -> dict[str, int]:
    """Bytes per step that no program can do without, by what they are; `state` may be abstract.

    Gradients once. Batch statistics: of each network at least one pass; of groups that lie within devices only what
    the running means take, of those that span devices also those of the backward pass. Embeddings: the keys for the
    queue, twice and with their order where they were shuffled. Weights: gathered where each device keeps a share.
    """
    numbers = {name: _count(part) for name, part in state.extra.items()}
    online = numbers.get("batch_stats", 0)
    target = _count(state.extra["target"]["batch_stats"]) if "target" in state.extra else 0
    spanning = config.model.bn_groups % devices != 0
    result = {"gradients": 4 * _count(state.params), "batch statistics": 4 * (online * (1 + spanning) + target)}
    if "queue" in state.extra:
        rows = 4 * config.batch * state.extra["queue"].shape[-1]
        result["embeddings"] = rows + (rows + 4 * config.batch if config.model.bn_groups > 1 else 0)
    if config.optim.shard_state:
        kept = (state.params, state.extra["target"]["params"] if "target" in state.extra else {})
        split = [x for x in jax.tree.leaves(kept) if parallel.shared_axis(devices, x.shape) is not None]
        result["weights"] = 4 * _count(split)
    return result


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
