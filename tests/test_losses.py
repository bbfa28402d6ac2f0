"""Losses against float64 NumPy written from the equations, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax import losses
from ncl_jax.errors import UserError


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def reference_info_nce(query, positive, queue, non_semantic, temperature, alpha):
    """Equation 2 of the paper, one query after another, in float64."""
    query, positive, queue = unit(query), unit(positive), unit(queue)
    losses = []
    for i, q in enumerate(query):
        top = np.exp(q @ positive[i] / temperature)
        bottom = top + sum(np.exp(q @ n / temperature) for n in queue)
        if non_semantic is not None:
            alphas = np.broadcast_to(alpha, non_semantic.shape[1])
            bottom += sum(np.exp(a * (q @ z) / temperature) for a, z in zip(alphas, unit(non_semantic[i]), strict=True))
        losses.append(-np.log(top / bottom))
    return np.array(losses)


def embeddings(seed, batch, dim, queue, num):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s) for s in ((batch, dim), (batch, dim), (queue, dim))]
    return *arrays, rng.normal(size=(batch, num, dim)) if num is not None else None


@pytest.mark.parametrize("num", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, 3.0])
def test_info_nce_equals_the_equation(num, alpha):
    rng = np.random.default_rng(int(alpha * 10) + (num or 7))
    batch, dim, queue = rng.integers(1, 9), rng.integers(2, 33), rng.integers(1, 50)
    q, k, n, z = embeddings(3, batch, dim, queue, num)
    got = losses.info_nce(q, k, n, z, temperature=0.2, alpha=alpha)
    assert got.shape == (batch,)
    np.testing.assert_allclose(got, reference_info_nce(q, k, n, z, 0.2, alpha), rtol=1e-5, atol=1e-6)


def test_info_nce_by_hand():
    query, positive = jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 0.0]])
    queue, ns = jnp.array([[0.0, 1.0]]), jnp.array([[[1.0, 0.0]]])
    got = losses.info_nce(query, positive, queue, ns, temperature=1.0, alpha=2.0)
    np.testing.assert_allclose(got, [-np.log(np.e / (np.e + 1 + np.e**2))], rtol=1e-6)


def test_alpha_scales_inside_the_exponent_and_one_per_negative():
    q, k, n, z = embeddings(0, 4, 8, 5, 2)
    alpha = np.array([1.0, 3.0])
    got = losses.info_nce(q, k, n, z, temperature=0.2, alpha=alpha)
    np.testing.assert_allclose(got, reference_info_nce(q, k, n, z, 0.2, alpha), rtol=1e-5)


@pytest.mark.parametrize("num", [None, 0])
def test_alpha_means_nothing_without_negatives(num):
    q, k, n, z = embeddings(1, 4, 8, 5, num)
    one, two = (losses.info_nce(q, k, n, z, temperature=0.2, alpha=a) for a in (0.5, 3.0))
    np.testing.assert_array_equal(one, two)


def test_gradient_reaches_the_query_alone():
    q, k, n, z = (jnp.asarray(x, jnp.float32) for x in embeddings(2, 4, 8, 5, 2))

    def mean(*arrays, **kwargs):
        return losses.info_nce(*arrays, temperature=0.2, alpha=2.0, **kwargs).mean()

    grads = jax.grad(mean, argnums=(0, 1, 2, 3))(q, k, n, z)
    assert np.abs(grads[0]).max() > 1e-4
    assert all(not np.any(grad) for grad in grads[1:])
    through = jax.grad(lambda *a: mean(*a, non_semantic_gradient=True), argnums=3)(q, k, n, z)
    assert np.abs(through).max() > 1e-4


def test_zero_embeddings_give_finite_gradients():
    zero = jnp.zeros((2, 4))
    grad = jax.grad(lambda q: losses.info_nce(q, zero + 1, zero, temperature=0.2, alpha=1.0).sum())(zero)
    assert np.isfinite(grad).all()


def test_implicit_feature_modification_by_hand():
    logits = np.array([[1.0, 0.5, -0.2]])
    moved = logits + np.array([[-0.3, 0.3, 0.3]])
    plain, hard = (-np.log(np.exp(x[0, 0]) / np.exp(x).sum()) for x in (logits, moved))
    got = losses.first_is_positive(jnp.asarray(logits), perturbation=0.3)
    np.testing.assert_allclose(got, [(plain + hard) / 2], rtol=1e-6)


@pytest.mark.parametrize("num", [None, 0, 1, 3])
def test_byol_regression_equals_the_equation(num):
    q, k, _, z = embeddings(5, 6, 12, 1, num)
    expected = ((unit(q) - unit(k)) ** 2).sum(-1)
    if num:
        expected = expected - 0.3 * ((unit(q)[:, None] - unit(z)) ** 2).sum(-1).mean(-1)
    got = losses.byol_regression(q, k, z, alpha=0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num", [None, 1, 2])
def test_in_batch_loss_equals_the_equation(num):
    """MoCo-v3's: a query's key against the other keys of the batch, each once."""
    q, k, _, z = embeddings(5, 6, 7, 1, num)
    expected = [
        reference_info_nce(q[[i]], k[[i]], np.delete(k, i, 0), z[[i]] if num else None, 0.5, 2.0) for i in range(6)
    ]
    logits = losses.in_batch_logits(q, k, z, temperature=0.5, alpha=2.0)
    np.testing.assert_allclose(losses.first_is_positive(logits), np.concatenate(expected), rtol=1e-5)


@pytest.mark.parametrize("num", [None, 1, 2])
def test_nt_xent_equals_the_equation(num):
    q, k, _, z = embeddings(6, 5, 7, 1, num)
    anchors = unit(np.concatenate([q, k]))
    expected = []
    for i in range(10):
        top = np.exp(anchors[i] @ anchors[(i + 5) % 10] / 0.5)
        bottom = sum(np.exp(anchors[i] @ anchors[j] / 0.5) for j in range(10) if j != i)
        if num:
            bottom += sum(np.exp(2.0 * (anchors[i] @ m) / 0.5) for m in unit(z[i % 5]))
        expected.append(-np.log(top / bottom))
    got = losses.nt_xent(q, k, z, temperature=0.5, alpha=2.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_wrong_shapes_are_one_line():
    one, two = jnp.ones((4, 8)), jnp.ones((4, 9))
    with pytest.raises(UserError, match=r"queue \[n d\], got \(4, 8\), \(4, 9\)"):
        losses.info_nce(one, two, one, temperature=0.2, alpha=1.0)
    with pytest.raises(UserError, match="non_semantic"):
        losses.info_nce(one, one, one, jnp.ones((4, 8)), temperature=0.2, alpha=1.0)
    with pytest.raises(UserError, match="byol_regression"):
        losses.byol_regression(one, two, alpha=1.0)
    for loss in (losses.byol_regression, functools.partial(losses.nt_xent, temperature=0.2)):
        with pytest.raises(UserError, match=r"alpha of shape \(3,\): want one number, or one for each of 2"):
            loss(one, one, jnp.ones((4, 2, 8)), alpha=jnp.ones(3))
    with pytest.raises(UserError, match="nt_xent"):
        losses.nt_xent(one, two, temperature=0.2, alpha=1.0)
    for negatives in (jnp.ones(4), jnp.ones((3, 0, 8))):
        with pytest.raises(UserError, match="must be"):
            losses.byol_regression(one, one, negatives, alpha=1.0)


@pytest.mark.parametrize("temperature", [0, -0.2, float("nan")])
def test_a_temperature_is_above_zero(temperature):
    one = jnp.ones((4, 8))
    for loss in (functools.partial(losses.info_nce, one, one, one), functools.partial(losses.nt_xent, one, one)):
        with pytest.raises(UserError, match="must be above 0"):
            loss(temperature=temperature)
