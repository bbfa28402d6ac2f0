"""Textures made from patches of an image: synthesis in pure JAX, quilting, and how good a texture is."""

from ncl_jax.textures.levels import QUALITIES
from ncl_jax.textures.quilting import quilt
from ncl_jax.textures.synthesis import synthesize

__all__ = ["QUALITIES", "quilt", "synthesize"]
