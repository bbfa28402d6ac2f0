"""Textures made from patches of an image: synthesis in pure JAX, quilting, and how good a texture is."""

from ncl_jax.textures.quilting import quilt
from ncl_jax.textures.synthesis import QUALITIES, synthesize

__all__ = ["QUALITIES", "quilt", "synthesize"]
