"""Pretraining methods.

To add one, write a module with

* `build(config, total_steps) -> contract.Method`, whose text says what its three functions give;
* `Settings`: a frozen dataclass. It may have `check(config)`, which raises UserError for values that are wrong
  together, `against_collapse(config)`, what to try where the embeddings collapse, and `DEFAULT_ALPHA`, where the
  negatives are a term of their own and an alpha of 2 means something else than in the paper's exponent;

and list it here, or `register` it from a script of your own. `simclr.py` is the shortest to begin from.
"""

from typing import Any

from ncl_jax import config, schema
from ncl_jax.methods import byol, micro_batches, moco, moco_v3, simclr
from ncl_jax.methods.contract import Method

__all__ = ["REGISTRY", "Method", "against_collapse", "build", "register"]

REGISTRY: dict[str, Any] = {}


def register(name: str, module: Any) -> None:
    """Make a module, as above, or whatever has such attributes, a method: `config.method.name`.

    Raises UserError where it has not what it needs.
    """
    config.METHODS[name] = schema.settings_of(module, {"build": 2})
    REGISTRY[name] = module


for _name, _module in {"moco": moco, "moco_v3": moco_v3, "byol": byol, "simclr": simclr}.items():
    register(_name, _module)


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
