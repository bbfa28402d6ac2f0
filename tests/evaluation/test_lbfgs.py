"""L-BFGS on functions whose minimum is known."""

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax.evaluation import lbfgs


def test_quadratic_of_bad_condition():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    matrix = (basis * np.logspace(0, 3, 30)[None, :]) @ basis.T
    target = rng.normal(size=30)

    def value(x):
        return 0.5 * (x - jnp.asarray(target, jnp.float32)) @ jnp.asarray(matrix, jnp.float32) @ (x - target)

    solve = jax.jit(lambda x: lbfgs.minimise(jax.value_and_grad(value), x, steps=300, tolerance=1e-4))
    np.testing.assert_allclose(solve(jnp.zeros(30)), target, atol=1e-3)


def test_far_fewer_evaluations_than_gradient_descent():
    def value(x):  # convex, not quadratic; minimum at log(i)
        return jnp.sum(jnp.exp(x) - jnp.arange(1.0, 9.0) * x)

    solve = jax.jit(lambda x: lbfgs.minimise(jax.value_and_grad(value), x, steps=25, tolerance=1e-5))
    np.testing.assert_allclose(solve(jnp.zeros(8)), np.log(np.arange(1, 9)), atol=1e-4)


def test_stops_at_the_start_when_that_is_the_minimum_and_at_the_limit_of_steps():
    def value(x):
        return jnp.sum(jnp.square(x - 1.0))

    solve = jax.jit(lambda x, steps: lbfgs.minimise(jax.value_and_grad(value), x, steps=steps, tolerance=1e-6))
    np.testing.assert_array_equal(solve(jnp.ones(3), 10), jnp.ones(3))
    np.testing.assert_array_equal(solve(jnp.zeros(3), 0), jnp.zeros(3))
