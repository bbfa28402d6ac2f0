"""What is lowered for accelerators, none of which is here."""

import functools

import jax
import pytest
from tiny_step import batch, make


@functools.cache
def convolutions(platform):
    """How many there are in a step with every negative, in bfloat16."""
    jax.clear_caches()  # the backend's name is no part of their keys
    run, current = make(8, **{"model.dtype": "bfloat16", "negatives": {"patch": {}, "texture": {}, "quilt": {}}})
    wire = batch(0) | {"source": batch(1)["query"]}
    return run.trace(current, wire).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(monkeypatch, platform):
    """With what is chosen there instead of what suits CPUs, where small convolutions, and those in loops, are matrix
    products."""
    here = convolutions("cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    there = convolutions(platform)
    jax.clear_caches()
    assert there > here
