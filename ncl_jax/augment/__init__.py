"""Making views on the device: crops, colour, blur, and the recipes that put them together. Pure jitted functions."""

from ncl_jax.augment.crops import crop_resize, sample_box
from ncl_jax.augment.views import Recipe, augment, denormalize, normalize, recipe

__all__ = ["Recipe", "augment", "crop_resize", "denormalize", "normalize", "recipe", "sample_box"]
