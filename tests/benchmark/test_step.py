"""What is compared with what; no test asserts how long anything takes."""

import jax
import numpy as np
import pytest

from ncl_jax import config, config_file, methods, negatives, parallel  # noqa: F401
from ncl_jax.benchmark import program, step, timing
from ncl_jax.benchmark.result import Options
from ncl_jax.benchmark.timing import Timing
from ncl_jax.errors import UserError

TINY = {
    "batch": 8,
    "data": {"name": "none", "image_size": 16},
    "model": {"name": "resnet10", "width": 0.0625, "stem": "small"},
    "method": {"name": "moco", "queue_size": 16, "hidden_dim": 16, "embedding_dim": 8},
    "negatives": {"patch": {}},
    "augment": {"blur_probability": 0.0, "jitter_strength": 0.0},
    "evaluation": {"resize": 16},
}


def parse(**changes):
    raw = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in changes.items():
        config_file.override(raw, key.replace("__", "."), value)
    return config.parse(raw)


def test_variants_are_none_each_kind_and_all():
    settings = parse()
    assert [sorted(v.negatives) for v in step.variants(settings).values()] == [[], ["patch"]]
    plain = parse(negatives=())
    assert list(step.variants(plain)) == ["none"]


@pytest.fixture(scope="module")
def built():
    return program.build(parse(), parallel.data_mesh(jax.devices()[:1]))


def test_a_program_steps_and_knows_its_flops(built):
    first, second = built(), built()
    assert np.isfinite(float(first["loss"]))
    assert int(built.state.step) >= 2
    assert float(first["loss"]) != float(second["loss"])
    assert built.flops > 3 * 8 * 2 * 9 * 3 * 4 * 16**2  # the stem's product alone, of queries and keys
    weights = sum(leaf.size * 4 for leaf in jax.tree.leaves(built.state.params))
    assert built.bytes > 2 * weights + built.batch["query"].nbytes


def test_step_needs_a_config_and_a_batch_that_divides():
    with pytest.raises(UserError, match="--config="):
        step.run(Options())
    with pytest.raises(UserError, match=r"config\.batch = 6"):
        program.build(parse(batch=6, method__queue_size=6), parallel.data_mesh())


def test_parts_add_up_to_the_step():
    seconds = {"step patch": 10.0, "views": 1.0, "negatives": 1.5, "forward": 3.0, "gradient": 7.5}
    measured = {name: Timing(0.0, (value,)) for name, value in seconds.items()}
    rows = step._part_rows("patch", measured)
    assert [row["ms"] for row in rows] == [1000.0, 500.0, 3000.0, 4500.0, 1000.0]
    assert sum(row["ms"] for row in rows) == 1e3 * seconds["step patch"]
    del measured["forward"]  # of a batch that is computed in parts
    assert sum(row["ms"] for row in step._part_rows("patch", measured)) == 1e3 * seconds["step patch"]


def test_a_peer_is_compared_with_and_without_augmentation():
    seconds = {"step patch": 3.0, "views": 1.0, "peer": 4.0, "peer augmented": 9.0}
    rows = step._peer_rows("patch", {name: Timing(0.0, (value,)) for name, value in seconds.items()})
    assert [row["our speed / theirs"] for row in rows] == [2.0, 3.0]


def test_tables_of_a_run(monkeypatch):
    """All but the measuring: what is in which table, with made-up times."""
    monkeypatch.setattr(parallel, "data_mesh", lambda: real_mesh)
    real_mesh = program.parallel.Mesh(np.array(jax.devices()[:1]), ("data",))

    def measure(calls, seconds):
        assert seconds == 0.5
        return {name: Timing(0.0, (0.001 * (place + 1),)) for place, name in enumerate(calls)}

    class Fake:
        def __init__(self, settings):
            self.config, self.flops, self.bytes, self.compile_seconds = settings, 1e9, 1, 1.0

    monkeypatch.setattr(program, "build", lambda settings, mesh: Fake(settings))
    parts = dict.fromkeys(("views", "negatives", "forward", "gradient"))
    monkeypatch.setattr(step, "_parts", lambda built: parts)
    monkeypatch.setattr(timing, "measure", measure)
    result = step.run(Options(parse(), seconds=0.5))
    by_negatives, by_part = result.tables.values()
    assert [row["negatives"] for row in by_negatives] == ["none", "patch"]
    assert [row["times none"] for row in by_negatives] == [1.0, 2.0]
    assert by_negatives[0]["images/s"] == pytest.approx(8 / 0.001)
    assert len(by_part) == 5
    assert set(result.samples) == {"step none", "step patch", *parts, "matrix product"}


def test_parts_are_those_of_the_step(built):
    parts = step._parts(built)
    views = parts["negatives"]()
    assert views["non_semantic"].shape == (8, 1, 16, 16, 3)
    assert parts["views"]()["non_semantic"] is None
    shapes = {name: jax.eval_shape(parts[name].func, *parts[name].args) for name in ("forward", "gradient")}
    (loss, _), gradient = shapes["gradient"]
    assert loss.shape == shapes["forward"].shape == ()
    assert jax.tree.structure(gradient) == jax.tree.structure(built.state.params)
