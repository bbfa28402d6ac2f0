"""What else is measured on a frozen encoder and its probe: each test set, analysis or transfer is a module here.

To add one, write a module with

* `Settings`: a frozen dataclass, the keys of `config.evaluation.sets.NAME`;
* `check(subject, settings)`: look at what will be read, before hours are spent; UserError where it is not there;
* `run(subject, settings) -> dict` of what goes to `results.json`: numbers, shares and accuracies in [0, 1];
* `ROWS`: which of these numbers stand in tables and TensorBoard, under which title;
* `UNLABELLED = True` where it needs neither the probe nor other labels of the training images;
* `OUT_OF_DOMAIN = True` where it puts other images before the probe than those it has learnt from, `ANALYSIS = True`
  where its numbers are no accuracies: so a study knows which of its tables and figures they are for;

and list it here, or `register` it from a script of your own (`edges.py` is a short one to begin from; what `subject`
has, `ncl_jax.evaluation.subject` says). A set that raises UserError, in either, is named and left out; it never stops
the others. Nor does one that fails otherwise while it runs: that is shown with its traceback. Only where one of several
processes may fail alone, over records that do not read (`Unreadable`) or otherwise, all of them end: the others wait
for it.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ncl_jax import config, schema, workdir
from ncl_jax.errors import Mistake, Unreadable, UserError
from ncl_jax.evaluation.sets import (
    categories,
    classes,
    corruptions,
    cue_conflict,
    domain,
    edges,
    feature_map,
    feature_statistics,
    few_shot,
    finetune,
    neighbours,
    real,
    similarity,
    stylized,
    textures,
    transfer,
)

__all__ = ["REGISTRY", "available", "register", "run"]

log = logging.getLogger(__name__)

REGISTRY: dict[str, Any] = {}


def register(kind: str, module: Any) -> None:
    """Make a module, as above, or whatever has such attributes, a kind of test set: `config.evaluation.sets.KIND`.

    Raises UserError where it has not what it needs.
    """
    config.TEST_SETS[kind] = schema.settings_of(module, {"check": 2, "run": 2})
    REGISTRY[kind] = module


for _kind, _module in {
    "domain": domain,
    "corruptions": corruptions,
    "cue_conflict": cue_conflict,
    "categories": categories,
    "edges": edges,
    "stylized": stylized,
    "textures": textures,
    "few_shot": few_shot,
    "real": real,
    "finetune": finetune,
    "transfer": transfer,
    "feature_statistics": feature_statistics,
    "classes": classes,
    "similarity": similarity,
    "neighbours": neighbours,
    "feature_map": feature_map,
}.items():
    register(_kind, _module)


def kind_of(settings: Any) -> str:
    """The name in REGISTRY."""
    return next(kind for kind, module in REGISTRY.items() if isinstance(settings, module.Settings))


def has(kind: str, flag: str) -> bool:
    """Whether the module of a kind has one of the flags above; a kind that is not known any more has none."""
    return getattr(REGISTRY.get(kind), flag, False)


def available(subject: Any, chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The sets that every process can measure, and why each of the others cannot be.

    Raises Mistake where one is set as none can be.
    """
    there, missing = {}, {}
    for name, settings in chosen.items():
        try:
            kind = kind_of(settings)
            REGISTRY[kind].check(subject, settings)
            if subject.unlabelled and not has(kind, "UNLABELLED"):
                raise UserError(subject.unlabelled)
            there[name] = settings
        except Mistake:
            raise
        except UserError as error:
            missing[name] = str(error)
    if jax.process_count() > 1:  # where one process has a set and another has not, the one waits for ever
        lacking = multihost_utils.process_allgather(np.array([name in missing for name in chosen], bool))
        for name, of_processes in zip(chosen, lacking.T, strict=True):
            if name in there and of_processes.any():
                del there[name]
                missing[name] = f"process {int(of_processes.argmax())} cannot measure it"
    return there, missing


def run(subject: Any, chosen: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Results by name, each with its `kind`, and why a set gave none after all (images that do not decode, ...)."""
    results, failed = {}, {}
    for name, settings in chosen.items():
        subject.say(f"evaluating {name}")
        kind = kind_of(settings)
        subject.measured = name if name != kind else ""
        try:
            found = workdir.finite({"kind": kind, **REGISTRY[kind].run(subject, settings)})
            json.dumps(found)  # what cannot be written costs the others nothing either
            results[name] = found
        except Exception as error:  # after hours of others: these must not be lost
            alone = isinstance(error, Unreadable) or not isinstance(error, UserError)
            if alone and jax.process_count() > 1:  # the other processes are in the middle of this set
                raise
            if not isinstance(error, UserError):
                log.exception("%s", name)
                error = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            failed[name] = str(error)
            subject.say(f"left out: {name}: {error}")
    return results, failed
