"""Operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec
from tiny_step import make, settings

from ncl_jax import parallel
from ncl_jax.benchmark import flops, program, random_batch


def count(function, *shapes):
    return flops.count(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)))


def convolve(x, kernel, stride=1):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_products_and_convolutions():
    assert count(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (4, 3, 5), (4, 5, 7)) == 2 * 4 * 3 * 5 * 7
    forward = 2 * 2 * 8 * 8 * 9 * 3 * 4
    assert count(convolve, (2, 8, 8, 3), (3, 3, 3, 4)) == forward
    both = jax.grad(lambda x, kernel: convolve(x, kernel, stride=2).sum(), argnums=(0, 1))
    assert count(both, (2, 8, 8, 3), (3, 3, 3, 4)) == 3 * forward / 4


def test_loops_and_conditions():
    assert count(lambda a, b: jax.lax.fori_loop(0, 6, lambda i, x: x @ b, a), (3, 5), (5, 5)) == 6 * 2 * 3 * 5 * 5
    assert count(lambda a: jax.lax.cond(a[0, 0] > 0, lambda a: a @ a @ a, lambda a: a, a), (3, 3)) == 2 * 2 * 27
    assert count(jax.jit(jax.checkpoint(lambda a: a @ a)), (3, 3)) == 2 * 27
    mesh, rows = parallel.data_mesh(), PartitionSpec(parallel.DATA_AXIS)
    shared = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=rows, out_specs=rows)
    assert count(shared, (16, 5)) == 8 * 2 * 2 * 5 * 2


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_in_parts_does_the_same_work(accumulate):
    changes = {"model.bn_groups": 4, "optim.accumulate": accumulate}
    config = settings(**changes)
    _, state = make(1, **changes)
    _, _, step = program.make(config)
    traced = program.trace(config, parallel.data_mesh(jax.devices()[:1]), step, state, random_batch.wire(config))
    xla = traced.lower().compile().cost_analysis()["flops"]  # with all that is no product; a loop's body once
    print(flops.count(traced.jaxpr), xla)
    assert flops.count(traced.jaxpr) == 197_889_536
    if accumulate == 1:
        assert 0.9 * xla < flops.count(traced.jaxpr) < xla
