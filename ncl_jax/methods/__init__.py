"""Pretraining methods.

To add one, write a module with `Settings` (frozen dataclass) and `build(config, total_steps) -> contract.Method`,
and list it here.
"""

from types import ModuleType

from ncl_jax import config
from ncl_jax.methods import moco
from ncl_jax.methods.contract import Method

__all__ = ["REGISTRY", "Method", "build"]

REGISTRY: dict[str, ModuleType] = {"moco": moco}

config.METHODS.update({name: module.Settings for name, module in REGISTRY.items()})


def build(settings: config.Config, total_steps: int) -> Method:
    """The method that the config names; `total_steps` are those of the whole run, for momentum schedules."""
    name = next(name for name, module in REGISTRY.items() if isinstance(settings.method, module.Settings))
    return REGISTRY[name].build(settings, total_steps)
