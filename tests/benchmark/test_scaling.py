"""The model's arithmetic, and that a compiled program's collectives are found in its text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ncl_jax import config, methods, negatives, parallel  # noqa: F401
from ncl_jax.benchmark import collectives, scaling, sharded
from ncl_jax.benchmark.result import Options
from ncl_jax.benchmark.scaling import Machine
from ncl_jax.errors import UserError


def test_collectives_of_a_compiled_program():
    mesh = parallel.data_mesh()
    split, whole = parallel.batch_sharding(mesh), parallel.replicated(mesh)
    assert mesh.size == 8

    def program(x):
        return jnp.sum(x, axis=0), jax.lax.with_sharding_constraint(2 * x, whole)

    lowered = jax.jit(program, in_shardings=split, out_shardings=whole).lower(jnp.ones((16, 5)))
    found = collectives.sizes(lowered.compile().as_text())
    assert found["all-reduce"] == [5 * 4]
    assert found["all-gather"] == [16 * 5 * 4]


def test_nothing_is_sent_where_nothing_is_shared():
    split = NamedSharding(parallel.data_mesh(), PartitionSpec("data"))
    lowered = jax.jit(lambda x: 2 * x, in_shardings=split, out_shardings=split).lower(jnp.ones((16, 5)))
    assert collectives.sizes(lowered.compile().as_text()) == {}


def test_text_of_other_backends():
    program = """
      %ar = (f32[64]{0}, bf16[3,2]{1,0}) all-reduce(%a, %b), replica_groups={}
      %s = (f32[2,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%x), dimensions={0}
      %d = f32[16,8]{1,0} all-gather-done(%s)
      %r = u32[4]{0} reduce-scatter(%y)
    """
    assert collectives.sizes(program) == {
        "all-reduce": [64 * 4 + 6 * 2],
        "all-gather": [16 * 8 * 4],
        "reduce-scatter": [16],
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("all-reduce", 1.5), ("all-gather", 0.75), ("reduce-scatter", 3.0), ("collective-permute", 0.75)],
)
def test_seconds_of_a_ring(kind, expected):
    assert collectives.seconds(kind, 100, devices=4, bandwidth=100.0) == expected


def test_a_row_of_the_model():
    machine = Machine("m", 4, peak=100.0, memory=1e30, link=10.0)
    assert machine.speed == 50.0  # however fast its memory is
    counted = {"flops": 100.0, "collectives": {"all-reduce": [20], "all-gather": [10]}}  # of 16 images on 8 devices
    row = scaling.row(machine, 32, 16, counted)
    assert row["images per device"] == 8
    assert row["computing (ms)"] == pytest.approx(1e3 * 50.0 * 8 / 50.0)
    # The gather is twice as large for twice the batch; the sum is not.
    assert row["sending (ms)"] == pytest.approx(1e3 * (0.75 * 2 * 20 + 0.75 * 2 * 10) / 10.0)
    assert row["step (ms)"] == pytest.approx(row["computing (ms)"] + row["sending (ms)"])
    assert row["images/s"] == pytest.approx(32 / (row["step (ms)"] / 1e3))


def test_the_anchor_is_met_on_its_own_machine():
    anchor = Machine("A100", 1, peak=312e12, memory=scaling.ANCHOR_MEMORY, link=1.0)
    flops = 3 * scaling.FORWARD * sharded.DEVICES / sharded.DEVICES  # supervised: forward and backward, per image
    row = scaling.row(anchor, 8, 8, {"flops": flops, "collectives": {}})
    assert row["images/s"] == pytest.approx(2470)


def test_a_table_of_every_machine(monkeypatch):
    counted = {"flops": 1e12, "parameters": 1_000_000, "collectives": {"all-reduce": [4_000_000]}}
    counted["least"] = {"gradients": 4_000_000}
    monkeypatch.setattr(sharded, "describe", lambda settings: counted)
    settings = config.parse({"batch": 128, "data": {"name": "none"}})
    result = scaling.run(Options(settings))
    rows = result.tables[""]
    assert {row["machine"] for row in rows} == {machine.name for machine in scaling.MACHINES}
    assert [row["batch"] for row in rows if row["machine"] == "TPU v5e-16"] == [128, 1024]
    assert [row["batch"] for row in rows if row["machine"] == "TPU v5e-256"] == [64 * 256]  # 128 does not divide
    assert np.all([row["images/s"] > 0 for row in rows])
    assert any("not a measurement" in note for note in result.notes)


def test_groups_lie_within_devices():
    for batch, given, wanted in ((128, 4, 8), (128, 16, 16), (48, 3, 24), (40, 5, 40), (16, 1, 8)):
        settings = config.parse(
            {"batch": batch, "method": {"name": "moco", "queue_size": batch}, "model": {"bn_groups": given}}
        )
        assert sharded.local_groups(settings).model.bn_groups == wanted


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"batch": 12}, r"config\.batch = 12"), ({"optim": {"shard_state": True}}, r"config\.optim\.shard_state = True")],
)
def test_what_the_model_cannot_tell_is_refused(changes, line):
    settings = config.parse({"batch": 16, "method": {"name": "moco", "queue_size": 48}} | changes)
    with pytest.raises(UserError, match=line):
        sharded.describe(settings)
