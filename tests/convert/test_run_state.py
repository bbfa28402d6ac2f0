"""A MoCo run goes on in the other framework: a step there is the step that it would have been here."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncl_jax import config, methods, negatives  # noqa: F401  (negatives brings its settings)
from ncl_jax.convert import from_run, load_torch, save_torch, to_run
from ncl_jax.errors import UserError

MOMENTUM, TEMPERATURE, RATE = 0.9, 0.2, 0.05
CONFIG = {
    "batch": 8,
    "epochs": 10,
    "data": {"image_size": 32},
    "model": {"name": "resnet10"},
    "method": {"name": "moco", "momentum": MOMENTUM, "queue_size": 24, "hidden_dim": 64, "embedding_dim": 16},
    "negatives": {},
    "optim": {"learning_rate": RATE, "weight_decay": 1e-3},
    "evaluation": {"resize": 32},
}


@pytest.fixture(scope="module")
def run():
    return run_of(config.parse(CONFIG))


def run_of(settings):
    """(start, step): a fresh (params, extra, optimizer state), and one optimiser step on two views."""
    method = methods.build(settings, 100)
    optimizer = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(lambda step: RATE, momentum=0.9))

    @jax.jit
    def step(state, query, key):
        params, extra, optimizer_state = state
        views = {"query": query, "key": key, "key_order": jnp.arange(8), "non_semantic": None, "alpha": jnp.zeros(0)}
        (_, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(params, extra, views, jax.random.key(0))
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        params = optax.apply_updates(params, updates)
        return params, method.after_update(params, extra, aux, jnp.zeros(())), optimizer_state

    @jax.jit
    def start():
        params, extra = method.init(jax.random.key(0, impl="rbg"), jnp.zeros((2, 32, 32, 3)))
        return params, extra, optimizer.init(params)

    return start(), step


def images(seed):
    return np.random.default_rng(seed).normal(size=(2, 8, 32, 32, 3)).astype(np.float32)


def moco(torchvision, hidden):
    """The modules of a MoCo checkpoint (v1: no hidden layer), inside what DistributedDataParallel calls `module`."""
    import torch

    model = torch.nn.Module()
    model.encoder_q = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=16)
    if hidden:
        model.encoder_q.fc = torch.nn.Sequential(torch.nn.Linear(512, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16))
    model.encoder_k = copy.deepcopy(model.encoder_q)
    model.register_buffer("queue", torch.zeros(16, 24))
    model.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
    for parameter in model.encoder_k.parameters():
        parameter.requires_grad = False
    wrapper = torch.nn.Module()
    wrapper.module = model
    return wrapper


def torch_step(model, optimizer, query, key):
    """One step as He et al. 2020 give it in algorithm 1."""
    import torch

    query, key = (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (query, key))
    model.train()
    with torch.no_grad():
        for old, new in zip(model.encoder_k.parameters(), model.encoder_q.parameters(), strict=True):
            old.mul_(MOMENTUM).add_(new, alpha=1 - MOMENTUM)
        k = torch.nn.functional.normalize(model.encoder_k(key), dim=1)
    q = torch.nn.functional.normalize(model.encoder_q(query), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ model.queue.clone()], dim=1) / TEMPERATURE
    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(8, dtype=torch.long))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pointer = int(model.queue_ptr)
    model.queue[:, pointer : pointer + 8] = k.T
    model.queue_ptr[0] = (pointer + 8) % 24


def assert_close(got, expected):
    """Trees of one structure, to float32's rounding."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    flat = jax.tree_util.tree_leaves_with_path(expected)
    for value, (path, other) in zip(jax.tree.leaves(got), flat, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5, rtol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("hidden", [64, 0])
def test_a_step_in_pytorch_is_the_step_it_would_have_been(run, hidden, torchvision, tmp_path):
    torch = pytest.importorskip("torch")
    linear = CONFIG | {"method": CONFIG["method"] | {"hidden_dim": 0}}
    start, step = run if hidden else run_of(config.parse(linear))
    before = step(start, *images(0))
    expected = step(before, *images(1))

    sgd = {"lr": RATE, "momentum": 0.9, "weight_decay": 1e-3}
    network = from_run(*before, ema=MOMENTUM, epoch=3, sgd=sgd)
    others = "a resnet10, a head other than v1's or v2's" if hidden else "a resnet10"  # its 512 features, 64 hidden
    assert save_torch(network, tmp_path / "a.pth.tar", "moco") == [f"MoCo's scripts cannot --resume from it: {others}"]
    file = torch.load(tmp_path / "a.pth.tar")
    assert (file["epoch"], file["arch"]) == (3, "resnet10")
    model = moco(torchvision, hidden)
    model.load_state_dict(file["state_dict"], strict=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.load_state_dict(file["optimizer"])
    assert {name: optimizer.param_groups[0][name] for name in sgd} == sgd
    torch_step(model.module, optimizer, *images(1))

    torch.save(
        {"epoch": 4, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "b.pth.tar"
    )
    network = load_torch(tmp_path / "b.pth.tar")
    assert (network.epoch, network.sgd, network.ignored, network.pointer) == (4, sgd, (), 16)
    got = to_run(network, *start, step=7, ema=MOMENTUM)
    assert int(optax.tree_utils.tree_get(got[2], "count")) == 7
    for part in (0, 1):
        assert_close(got[part], expected[part])
    assert_close(*(optax.tree_utils.tree_get(state[2], "trace") for state in (got, expected)))


def test_a_run_comes_back_from_a_file(run, tmp_path):
    pytest.importorskip("torch")
    start, step = run
    before = step(start, *images(0))
    save_torch(from_run(*before, ema=MOMENTUM), tmp_path / "a.pth", "moco")
    params, extra, optimizer = to_run(load_torch(tmp_path / "a.pth"), *start, step=1, ema=MOMENTUM)
    exact = {**extra, "target": {**extra["target"], "params": None}}
    kept = {**before[1], "target": {**before[1]["target"], "params": None}}
    jax.tree.map(np.testing.assert_array_equal, (params, exact, optimizer), (before[0], kept, before[2]))
    # The key encoder's weights were taken one update back and forth again.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        extra["target"]["params"],
        before[1]["target"]["params"],
    )


def test_what_does_not_fit_the_config_is_named(run, backbone, tmp_path):
    start, _ = run
    np.savez(tmp_path / "a.npz", **backbone(architecture="resnet18"))
    with pytest.raises(UserError, match=r"backbone: the checkpoint has .*'layer1_1'.*, the config expects"):
        to_run(load_torch(tmp_path / "a.npz"), *start)
    np.savez(tmp_path / "b.npz", **backbone(architecture="resnet10"))
    with pytest.raises(
        UserError, match=r"backbone.bn1.bias: the checkpoint has shape \(8,\), the config expects \(64,\)"
    ):
        to_run(load_torch(tmp_path / "b.npz"), *start)


def test_a_bare_backbone_starts_a_run(run, backbone, tmp_path):
    start, _ = run
    np.savez(tmp_path / "a.npz", **backbone(architecture="resnet10", width=1))
    network = load_torch(tmp_path / "a.npz")
    params, extra, _ = to_run(network, *start)
    for tree in (params, extra["target"]["params"]):
        np.testing.assert_equal(tree["backbone"], network.variables["params"])
        assert tree["head"] is not network.heads
    np.testing.assert_array_equal(params["head"]["fc0"]["kernel"], start[0]["head"]["fc0"]["kernel"])
    np.testing.assert_array_equal(extra["queue"], start[1]["queue"])
