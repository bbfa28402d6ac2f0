"""Optimisers against their published update rules, written again in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax import config as config_lib
from ncl_jax import methods, optim  # noqa: F401  (methods bring their settings)

RATE, DECAY, MOMENTUM = 0.3, 0.1, 0.9


def make(name, **more):
    settings = {"name": name, "learning_rate": RATE, "weight_decay": DECAY, "momentum": MOMENTUM, **more}
    config = config_lib.parse({"epochs": 1000000, "optim": settings})
    return optim.optimizer(config, 1000)  # so long that the cosine stands still


def steps(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def problem():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in params.items()} for _ in range(4)]
    return params, gradients


def lars(w, gradients, adapt, decay):
    """You et al. 2017 as BYOL uses it: eta 0.001, momentum over the rescaled gradients."""
    velocity = np.zeros_like(w)
    for g in gradients:
        g = g + decay * w
        if adapt:
            g = g * (0.001 * np.linalg.norm(w) / np.linalg.norm(g))
        velocity = MOMENTUM * velocity + g
        w = w - RATE * velocity
    return w


@pytest.mark.parametrize("decay_all", [True, False])
def test_lars_is_the_published_rule(decay_all):
    params, gradients = problem()
    got = steps(make("lars", decay_all=decay_all), params, gradients)
    for name, w in params.items():
        chosen = decay_all or name == "kernel"
        expected = lars(w, [g[name] for g in gradients], chosen, DECAY if chosen else 0.0)
        np.testing.assert_allclose(got[name], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("decay_all", [True, False])
def test_sgd_is_pytorchs(decay_all):
    torch = pytest.importorskip("torch")
    params, gradients = problem()
    got = steps(make("sgd", decay_all=decay_all), params, gradients)
    for name, w in params.items():
        theirs = torch.nn.Parameter(torch.tensor(w))
        decay = DECAY if decay_all or name == "kernel" else 0.0
        sgd = torch.optim.SGD([theirs], lr=RATE, momentum=MOMENTUM, weight_decay=decay)
        for gradient in gradients:
            theirs.grad = torch.tensor(gradient[name])
            sgd.step()
        np.testing.assert_allclose(got[name], theirs.detach().numpy(), rtol=2e-5, atol=1e-6)


def test_schedules_by_hand():
    config = config_lib.parse({"epochs": 4, "optim": {"learning_rate": 1.0, "warmup_epochs": 1.0}})
    rate = optim.schedule(config, 10)
    got = [float(rate(step)) for step in (0, 5, 10, 25, 40)]
    np.testing.assert_allclose(got, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    config = config_lib.parse({"epochs": 4, "optim": {"learning_rate": 1.0, "schedule": "epoch"}})
    by_epoch = optim.schedule(config, 10)
    np.testing.assert_allclose(
        [float(by_epoch(s)) for s in (0, 9, 10, 19, 20)], [1, 1, *[0.5 + 0.5**1.5] * 2, 0.5], atol=1e-6
    )
    both = {"learning_rate": 1.0, "schedule": "epoch", "warmup_epochs": 2}
    warmed = optim.schedule(config_lib.parse({"epochs": 4, "optim": both}), 10)
    np.testing.assert_allclose([float(warmed(s)) for s in (1, 10, 20, 29, 30)], [0.05, 0.5, 1, 1, 0.5], atol=1e-6)
