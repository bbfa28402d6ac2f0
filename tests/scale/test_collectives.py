"""The compiled step moves gradients, batch statistics, embeddings and metrics between devices, and nothing else."""

import math

import jax
import pytest
from tiny_step import batch, make, settings

from ncl_jax import parallel
from ncl_jax.benchmark import collectives, traffic

EMBEDDING, FEATURES = 8, 64  # of TINY
LAYOUTS = {
    "groups in devices": {"model.bn_groups": 8},
    "groups over devices": {"model.bn_groups": 2},
    "state split": {"model.bn_groups": 8, "optim.shard_state": True},
    "negatives normalised with keys": {"method.non_semantic_norm": "shared"},
    "negatives shuffled": {"model.bn_groups": 8, "method.non_semantic_norm": "shuffled"},
}


def unexpected(program, config, state):
    """Arrays that collectives of this HLO text move and that are none of a step's.

    A step's are gradients (and weights, where they are split), batch statistics, embeddings `[batch, EMBEDDING]` or
    their covariance, and metrics with the online probe, whose inputs have FEATURES numbers. Images are none whatever
    their size.
    """
    weights = {math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)}
    probe = max((math.prod(leaf.shape) for leaf in jax.tree.leaves(state.probe)), default=0)
    small = max(config.batch * EMBEDDING, EMBEDDING**2, config.batch, probe, config.model.bn_groups * FEATURES)
    side, found = config.data.image_size, []
    for kind, shape in collectives.arrays(program):
        image = len(shape) >= 3 and side in shape and 3 in shape and math.prod(shape) not in weights
        if image or (math.prod(shape) > small and math.prod(shape) not in weights):
            found.append(f"{kind} of {list(shape)}")
    return found


@pytest.mark.parametrize("changes", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_nothing_else_is_moved(changes):
    run, current = make(8, **changes)
    config = settings(**changes)
    program = run.lower(current, batch(0, permuted=config.model.bn_groups > 1)).compile().as_text()
    assert unexpected(program, config, current) == []
    sizes = collectives.sizes(program)
    assert set(sizes) <= {"all-reduce", "all-gather", "reduce-scatter"}
    sent, least = sum(sum(each) for each in sizes.values()), traffic.least(config, current, 8)
    print(f"{changes}: {sent} bytes, {sent / sum(least.values()):.3f} times the least {least}")
    assert sum(least.values()) <= sent < 1.1 * sum(least.values())
    if config.optim.shard_state:
        shapes = {leaf.shape for leaf in jax.tree.leaves(current.params) if leaf.size >= 8 * parallel.SMALL}
        gathered = [shape for kind, shape in collectives.arrays(program) if kind == "all-gather"]
        assert shapes <= set(gathered)


def test_views_that_are_one_batch_stay_where_they_are():
    changes = {"method": {"name": "simclr", "hidden_dim": 16, "embedding_dim": EMBEDDING}}
    run, current = make(8, **changes)
    program = run.lower(current, batch(0)).compile().as_text()
    assert unexpected(program, settings(**changes), current) == []


def test_what_should_not_be_moved_is_seen():
    """A program that gathers views, and one that gathers activations, on purpose."""
    config, mesh = settings(), parallel.data_mesh()
    state = make(8)[1]
    split, whole = parallel.batch_sharding(mesh), parallel.replicated(mesh)
    for shape in ((16, 16, 16, 3), (16, 8, 8, 8)):
        lowered = jax.jit(lambda x: x * 2, in_shardings=split, out_shardings=whole).lower(
            jax.ShapeDtypeStruct(shape, "float32")
        )
        found = unexpected(lowered.compile().as_text(), config, state)
        assert found == [f"all-gather of {list(shape)}"]
