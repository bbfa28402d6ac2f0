"""Weights from and to PyTorch: torchvision, timm, MoCo, detectron2 and what other frameworks write.

`torch` is needed for `.pth` files only and imported where one is read or written.
"""

from ncl_jax.convert.layouts import load_torch
from ncl_jax.convert.network import Network
from ncl_jax.convert.run_state import from_run, to_run
from ncl_jax.convert.writers import LAYOUTS, save_torch

__all__ = ["LAYOUTS", "Network", "from_run", "load_torch", "save_torch", "to_run"]
