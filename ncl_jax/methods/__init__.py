"""Pretraining methods.

To add one, write a module with

* `build(config, total_steps) -> contract.Method`, whose text says what its three functions give;
* `Settings`: a frozen dataclass. It may have `check(config)`, which raises UserError for values that are wrong
  together, `against_collapse(config)`, what to try where the embeddings collapse, and `DEFAULT_ALPHA`, where the
  negatives are a term of their own and an alpha of 2 means something else than in the paper's exponent;

and list it here. `simclr.py` is the shortest to begin from.
"""

from types import ModuleType

from ncl_jax import config
from ncl_jax.methods import byol, micro_batches, moco, moco_v3, simclr
from ncl_jax.methods.contract import Method

__all__ = ["REGISTRY", "Method", "against_collapse", "build"]

REGISTRY: dict[str, ModuleType] = {"moco": moco, "moco_v3": moco_v3, "byol": byol, "simclr": simclr}

config.METHODS.update({name: module.Settings for name, module in REGISTRY.items()})


def build(settings: config.Config, total_steps: int) -> Method:
    """The method that the config names; `total_steps` are those of the whole run, for momentum schedules."""
    name = next(name for name, module in REGISTRY.items() if isinstance(settings.method, module.Settings))
    return REGISTRY[name].build(micro_batches.part_of(settings), total_steps)


def against_collapse(settings: config.Config) -> list[str]:
    """What to try where the embeddings collapse: first what `Settings.against_collapse` of the method knows, if it has
    one."""
    own = getattr(settings.method, "against_collapse", None)
    return [
        *(own(settings) if own else []),
        f"a lower config.optim.learning_rate{' or alpha' if settings.negatives else ''}",
    ]
