"""Contrastive pretraining that does not lean on texture, in JAX (NeurIPS 2021, arXiv 2110.14189)."""

__version__ = "0.1.0"
