"""What every method must hold: plain without negatives, the same on many devices, in parts, and as configured."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_step import SIDE, TINY, batch, flat, make

from ncl_jax import config as config_lib
from ncl_jax import main, methods
from ncl_jax.errors import UserError
from ncl_jax.evaluation import similarity
from ncl_jax.methods import contract, target

HEADS = {"hidden_dim": 16, "embedding_dim": 8}
PLAIN = TINY | {"augment": {"jitter_strength": 0.0, "blur_probability": 0.0}}  # colour is most of what is compiled

pytestmark = pytest.mark.usefixtures("two_stages")


def of(name):
    return {"name": name, **HEADS} if name != "moco" else TINY["method"]


@functools.cache
def run(name, devices=1, **changes):
    """(loss, state) after one step: in further ones batch norm magnifies float32's rounding."""
    sections = {"method": of(name)} | ({"model.bn_groups": 4} if name in ("moco", "byol") else {})
    step, current = make(devices, **(PLAIN | sections | changes))
    current, metrics = step(current, batch(0))
    return float(metrics["loss"]), current


def views(seed=0):
    rng = np.random.default_rng(seed)
    query, key = rng.normal(size=(2, 8, SIDE, SIDE, 3)).astype(np.float32)
    negatives = rng.normal(size=(8, 2, SIDE, SIDE, 3)).astype(np.float32)
    order = rng.permutation(8)
    return {"query": query, "key": key, "key_order": order, "non_semantic": negatives, "alpha": np.float32([1.0, 2.0])}


def loss_of(config):
    """(params, loss function of params) of a method in its first step."""
    method = methods.build(config, 8)
    params, extra = method.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
    return params, lambda params, views: method.loss(params, extra, views, jax.random.key(0))[0]


@pytest.mark.parametrize("name", methods.REGISTRY)
def test_alpha_zero_is_the_plain_method(name):
    """To the config's last field, so to the last bit of the run."""
    plain, zero, some = (
        config_lib.parse(TINY | {"method": of(name), "negatives": negatives})
        for negatives in ({}, {"patch": {"alpha": 0.0, "patch_size": (2, 5)}}, {"patch": {"patch_size": (2, 5)}})
    )
    assert plain == zero != some


def assert_same(one, two):
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    np.testing.assert_allclose(flat(one[1].params), flat(two[1].params), atol=1e-4)
    np.testing.assert_allclose(flat(one[1].extra), flat(two[1].extra), atol=1e-4)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_one_device_equals_eight(name):
    assert_same(run(name), run(name, devices=8))


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_a_batch_in_parts_is_the_whole_batch(name):
    assert_same(run(name), run(name, **{"optim.accumulate": 4}))


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_in_batch_negatives_refuse_parts(name):
    with pytest.raises(UserError, match=r"config\.optim\.accumulate = 2: .* rest of the batch"):
        config_lib.parse(TINY | {"method": of(name), "optim": {"accumulate": 2}, "model": {"bn_groups": 2}})


def test_parts_must_not_cut_batch_norms_groups():
    with pytest.raises(UserError, match=r"config\.optim\.accumulate = 4: does not divide config\.model\.bn_groups = 2"):
        config_lib.parse(TINY | {"optim": {"accumulate": 4}, "model": {"bn_groups": 2}})


def test_a_linear_head_has_no_hidden_layer_to_normalise():
    with pytest.raises(UserError, match=r"config\.method\.head_batch_norm = True: .*hidden_dim = 0 asks for none"):
        config_lib.parse(TINY | {"method": {"name": "moco", "hidden_dim": 0, "head_batch_norm": True}})


def test_remat_changes_memory_and_nothing_else():
    assert_same(run("moco"), run("moco", **{"model.remat": True}))


@pytest.mark.parametrize("name", methods.REGISTRY)
def test_what_the_loss_compares_is_what_its_metrics_say(name):
    config = config_lib.parse(TINY | {"method": of(name), "batch": 8, "model": {**TINY["model"], "bn_groups": 2}})
    method = methods.build(config, 8)
    params, extra = method.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
    _, aux = jax.jit(method.loss)(params, extra, views(), jax.random.key(0))
    found = similarity.similarities(
        np.asarray(aux["query"]),
        positive=np.asarray(aux["positive"]),
        negatives={"ns": np.asarray(aux["non_semantic"])},
    )
    assert np.mean(found["positive"]) == pytest.approx(float(aux["metrics"]["similarity_positive"]), abs=1e-5)
    assert np.mean(found["ns"]) == pytest.approx(float(aux["metrics"]["similarity_ns"]), abs=1e-5)


@pytest.mark.parametrize("name", methods.REGISTRY)
def test_options_change_the_loss(name):
    options = {"non_semantic_norm": "shared", "ifm_epsilon": 0.1}  # of those that have them: byol has no logits
    known = {field.name for field in dataclasses.fields(methods.REGISTRY[name].Settings)}
    changes = [{}, *({option: value} for option, value in options.items() if option in known)]
    configs = [config_lib.parse(PLAIN | {"method": of(name) | change}) for change in changes]
    compared = [loss_of(config) for config in configs]
    losses = jax.jit(lambda params, views: jnp.stack([loss(params, views) for _, loss in compared]))
    values = np.asarray(losses(compared[0][0], views()))
    other_alpha = losses(compared[0][0], views() | {"alpha": np.float32([0.5, 2.0])})
    assert (values != np.asarray(other_alpha)).all()
    assert np.isfinite(values).all()
    assert len(set(np.round(values, 4))) == len(values)


def test_ifm_is_no_option_of_byol():
    with pytest.raises(UserError, match=r"config\.method\.ifm_epsilon: unknown key"):
        config_lib.parse(TINY | {"method": of("byol") | {"ifm_epsilon": 0.1}})


def test_negatives_through_the_online_encoder_get_a_gradient():
    configs = [config_lib.parse(PLAIN | {"method": of("moco") | {"non_semantic_encoder": e}}) for e in target.ENCODERS]
    (params, still), (_, moving) = (loss_of(config) for config in configs)
    both = jax.jit(lambda p, v: [jax.value_and_grad(loss)(p, v) for loss in (still, moving)])
    (one, first), (two, second) = both(params, views())
    assert float(one) == pytest.approx(float(two), rel=1e-5)  # at the first step both encoders are the same
    assert np.abs(flat(first) - flat(second)).max() > 1e-4


@pytest.mark.parametrize("name", ["moco", "simclr"])
def test_what_an_encoder_is_evaluated_by_is_of_views_alone(name):
    """Negatives through the encoder that learns leave its running statistics as they are without them."""
    settings = of(name) | ({"non_semantic_encoder": "online"} if name == "moco" else {})

    def stats(views, norm="own"):
        method = methods.build(config_lib.parse(PLAIN | {"method": settings | {"non_semantic_norm": norm}}), 8)
        params, extra = method.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
        return method.loss(params, extra, views, jax.random.key(0))[1]["batch_stats"]

    plain = views() | {"non_semantic": None, "alpha": np.zeros(0, np.float32)}
    without, own, shared = jax.jit(lambda: (stats(plain), stats(views()), stats(views(), "shared")))()
    np.testing.assert_allclose(flat(own), flat(without), atol=1e-6)
    assert np.abs(flat(shared) - flat(without)).max() > 1e-3


@pytest.mark.parametrize("encoder", target.ENCODERS)
def test_shuffled_negatives_are_normalised_where_the_keys_order_puts_them(encoder):
    """By its square: as if the images were put there, encoded in contiguous groups and put back."""
    method = of("moco") | {"non_semantic_norm": "shuffled", "non_semantic_encoder": encoder}
    config = config_lib.parse(PLAIN | {"method": method, "model": PLAIN["model"] | {"bn_groups": 2}})
    built = methods.build(config, 8)
    params, extra = built.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
    seen = views()
    order = seen["key_order"][seen["key_order"]]
    assert (order != np.arange(8)).any()

    def non_semantic(images, norm):
        changed = config_lib.parse(config_lib.to_dict(config) | {"method": method | {"non_semantic_norm": norm}})
        given = methods.build(changed, 8).loss(params, extra, seen | {"non_semantic": images}, jax.random.key(0))[1]
        return given["non_semantic"]

    images = seen["non_semantic"]
    shuffled, moved, own = jax.jit(
        lambda: (
            non_semantic(images, "shuffled"),
            non_semantic(images[order], "own"),
            non_semantic(images, "own"),
        )
    )()
    np.testing.assert_allclose(shuffled[order], moved, atol=1e-4)
    assert np.abs(np.asarray(shuffled) - np.asarray(own)).max() > 1e-2


def test_shared_norm_pools_image_by_image():
    parts = [np.arange(4.0)[:, None], np.arange(100.0, 108.0)[:, None]]
    pooled = contract.pool(parts)
    np.testing.assert_array_equal(pooled[:, 0], [0, 100, 101, 1, 102, 103, 2, 104, 105, 3, 106, 107])
    for part, back in zip(parts, contract.unpool(pooled, [4, 8]), strict=True):
        np.testing.assert_array_equal(part, back)


def test_target_momentum_rises_by_the_cosine_to_one():
    got = [float(target.cosine_momentum(0.9, step, 100)) for step in (0, 25, 50, 100, 200)]
    np.testing.assert_allclose(got, [0.9, 1 - 0.1 * (np.cos(np.pi / 4) + 1) / 2, 0.95, 1.0, 1.0], atol=1e-7)


def test_byols_target_has_no_predictor_and_gets_no_gradient():
    _, current = run("byol")
    assert set(current.params) == {"backbone", "head", "predictor"}
    assert set(current.extra["target"]["params"]) == {"backbone", "head"}
    config = config_lib.parse(TINY | {"method": of("byol"), "negatives": {}})
    method = methods.build(config, 8)
    params, extra = method.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
    seen = views() | {"non_semantic": None, "alpha": np.zeros(0)}

    def loss(moved):
        aim = {**extra["target"], "params": moved}
        return method.loss(params, {**extra, "target": aim}, seen, jax.random.key(0))[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(extra["target"]["params"])
    assert 0 < float(value) < 8  # two directions, each 2 - 2 cos
    assert not any(np.any(grad) for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize("temperature", [0.25, 1.0])
def test_moco_v3_scales_its_loss_by_twice_the_temperature(temperature):
    """Their algorithm 1. Equal embeddings, as a head of zeros makes them, have equal logits: the log of how many."""
    method = {**of("moco_v3"), "temperature": temperature}
    params, loss = loss_of(config_lib.parse(TINY | {"method": method}))
    params["predictor"] = jax.tree.map(jnp.zeros_like, params["predictor"])
    plain = views() | {"non_semantic": None, "alpha": np.zeros(0, np.float32)}
    assert loss(params, plain) == pytest.approx(2 * temperature * 2 * np.log(8), rel=1e-6)


def test_default_alpha_follows_the_method():
    def alpha(**method):
        return (
            config_lib.parse(TINY | {"method": method, "negatives": {"patch": {"patch_size": (2, 5)}}})
            .negatives["patch"]
            .alpha
        )

    assert alpha(**of("byol")) == methods.byol.Settings.DEFAULT_ALPHA != alpha(**of("moco")) == 2.0


@pytest.mark.parametrize("name", ["byol", "simclr", "moco_v3"])
def test_smoke_runs_from_the_command_line(name, smoke_data, tmp_path, capsys):
    flags = ["--config.epochs=1", "--config.evaluation.every_epochs=0", f"--config.data.data_dir={smoke_data}"]
    code = main.main(["pretrain", f"--config=configs/smoke.py:{name}", f"--workdir={tmp_path / 'run'}", *flags])
    assert code == 0, capsys.readouterr().err
    assert "linear probe top-1" in capsys.readouterr().out
