"""What a study consists of: its config file, read and checked as a whole before any compute is spent.

The file's `get_config(variant)` returns a dict. `overrides` hold dotted keys of a run's config, so that

    {"base": "configs/demo.py", "overrides": {"epochs": 10},
     "variants": {"baseline": {"config": ":baseline"}, "alpha3": {"overrides": {"negatives.patch.alpha": 3.0}}}}

is two kinds of runs; a section as a value replaces that section. The other keys are those of `Study`.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax import config as config_lib
from ncl_jax import config_file, schema
from ncl_jax.config import Config
from ncl_jax.errors import UserError
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Variant:
    config: str = ""  # another base; ":VARIANT" is one of the study's own base
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""  # in tables; empty: its name
    against: str = ""  # the variant that it is compared with; empty: the study's baseline


@dataclasses.dataclass(frozen=True)
class Published:
    """Figures of others beside ours, where the setting is the same."""

    table: str = ""  # a CSV file of `ncl_jax/study`
    rows: Mapping[str, str] = dataclasses.field(default_factory=dict)  # variant -> `row` of the table
    measures: Mapping[str, str] = dataclasses.field(default_factory=dict)  # key of ours -> column of the table


@dataclasses.dataclass(frozen=True)
class Study:
    base: str  # configs/NAME.py or configs/NAME.py:VARIANT
    variants: Mapping[str, Variant]
    title: str = ""
    about: str = ""  # a paragraph for the report
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of all runs
    seeds: tuple[int, ...] = option((0, 1, 2), low=0)
    baseline: str = ""  # what the others are compared with; empty: the first variant
    evaluate: str = ""  # configs/eval/NAME.py, whose `data` and `evaluation` all runs take
    confidence: float = option(0.95, above=0.0, high=0.9999)  # of the intervals
    sweeps: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # axis -> variant -> its value
    published: Published = Published()
    keep_checkpoints: bool = True  # the last one of each run, from which it can be measured again


@dataclasses.dataclass(frozen=True)
class Plan:
    name: str  # of the file, and its variant
    study: Study
    configs: Mapping[str, Config]  # of each variant; its seed is to be replaced
    changed: tuple[str, ...]  # what the command line set of the runs: their keys, and sections that hold them

    @property
    def baseline(self) -> str:
        return self.study.baseline or next(iter(self.configs))

    def config(self, variant: str, seed: int) -> Config:
        return dataclasses.replace(self.configs[variant], seed=seed)

    def against(self, variant: str) -> str:
        """What a variant is compared with; itself, where with nothing."""
        return self.study.variants[variant].against or self.baseline

    def label(self, variant: str) -> str:
        return self.study.variants[variant].label or variant

    def runs(self, only: tuple[str, ...] = ()) -> list[tuple[str, int]]:
        """(variant, seed) in the order in which they run: all of the first seed first, so that part of it compares.

        `only`: of these variants. Raises UserError for an unknown one.
        """
        unknown = next((name for name in only if name not in self.configs), None)
        if unknown is not None:
            raise UserError(f"--only={unknown}: is no variant; one of {', '.join(self.configs)}")
        return [(v, seed) for seed in self.study.seeds for v in self.configs if not only or v in only]

    def check_different(self, only: tuple[str, ...] = ()) -> None:
        """UserError where two variants (`only`: of these) are one, as a key that is set for all runs can make them."""
        for a, b in itertools.combinations([name for name in self.configs if not only or name in only], 2):
            if self.configs[a] == self.configs[b]:
                raise UserError(f"variants {a} and {b}: have the same settings, so one would be run twice; see --only")


_OF_RUNS = {"base", "evaluate", "overrides", "variants"}  # keys of a study from which its runs' settings follow


def load(path: str, overrides: Mapping[str, Any] | None = None) -> Plan:
    """The checked plan of a study's file. `overrides` set keys of the study (`seeds`), or else of all its runs: those
    of a kind of negatives (`negatives.patch.num`) of the runs that have it.

    Raises UserError, one line, for whatever is wrong with the study or with the config of any variant.
    """
    raw, of_runs, fields = config_file.read(path), {}, {f.name for f in dataclasses.fields(Study)}
    for key, value in (overrides or {}).items():
        if key in fields:
            config_file.override(raw, key, value)
        else:
            of_runs[key] = value
    study = _parse(raw)
    file, _, variant = path.partition(":")
    configs = {name: _config(study, name, Path(file), of_runs) for name in study.variants}
    _check_kinds(of_runs, configs)
    _check(study, configs)
    changed = (*of_runs, *sorted(_OF_RUNS & {*(overrides or {})}))
    return Plan(Path(file).stem + (f"_{variant}" if variant else ""), study, configs, changed)


def _parse(raw: dict[str, Any]) -> Study:
    raw, ready = dict(raw), {}
    if not isinstance(raw.get("base"), str) or not raw["base"]:
        fault = "is missing" if not raw.get("base") else "is no name of a file"
        raise UserError(f"config.base: {fault}; the config file that the runs start from, e.g. 'configs/demo.py'")
    variants = _mapping(raw.pop("variants", {}), "variants")
    if not variants:
        raise UserError("config.variants: is missing; a section per variant, e.g. {'baseline': {}}")
    ready["variants"] = {name: _section(Variant, v, f"variants.{name}", "overrides") for name, v in variants.items()}
    ready["overrides"] = _mapping(raw.pop("overrides", {}), "overrides")
    sweeps = _mapping(raw.pop("sweeps", {}), "sweeps")
    ready["sweeps"] = {axis: _mapping(values, f"sweeps.{axis}") for axis, values in sweeps.items()}
    ready["published"] = _section(Published, raw.pop("published", {}), "published", "rows", "measures")
    return schema.section(Study, raw, "", ready)


def _section(kind: type, raw: Any, path: str, *mappings: str) -> Any:
    """`schema.section`, whose fields `mappings` hold any keys."""
    raw = _mapping(raw, path)
    ready = {name: _mapping(raw.pop(name), f"{path}.{name}") for name in mappings if name in raw}
    return schema.section(kind, raw, path, ready)


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"config.{path} = {value!r}: is a section")
    return dict(value)


def _config(study: Study, name: str, file: Path, of_runs: Mapping[str, Any]) -> Config:
    """A variant's config: its base, the protocol, then what the study, the variant and the command line set, each over
    what was before."""
    variant = study.variants[name]
    base = study.base.partition(":")[0] + variant.config if variant.config.startswith(":") else variant.config
    try:
        raw = config_file.read(_find(base or study.base, file))
        if study.evaluate:
            config_file.merge_evaluation(raw, _find(study.evaluate, file))
        for layer in ({"checkpoint.keep": 1}, study.overrides, variant.overrides, of_runs):
            for key, value in layer.items():
                if key == "seed":
                    raise UserError(f"config.seed = {value}: a study sets it; give config.seeds = ({value},)")
                if layer is not of_runs or _concerns(key, raw):
                    config_file.override(raw, key, value)
        return config_lib.parse(raw)
    except UserError as error:
        raise UserError(f"variant {name}: {error}") from error


def _kind(key: str) -> str:
    """`patch` of `negatives.patch.num`; empty for other keys."""
    parts = key.split(".")
    return parts[1] if parts[0] == "negatives" and len(parts) > 2 else ""


def _concerns(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether a key for all runs is for this one: a key of a kind of negatives must not bring it to the baseline."""
    settings = config_file.named(raw.get("negatives"), "negatives").get(_kind(key))
    return not _kind(key) or (isinstance(settings, Mapping) and settings.get("alpha") != 0)


def _find(path: str, file: Path) -> str:
    """A config file named from here or, as the repository's own studies do, from a folder above the study's."""
    name = path.partition(":")[0]
    for folder in (Path(), *file.resolve().parents):
        if (folder / name).is_file():
            return str(folder / path)
    return path


def _check_kinds(of_runs: Mapping[str, Any], configs: Mapping[str, Config]) -> None:
    """UserError where a key is of a kind of negatives that no variant has."""
    kinds = {kind for config in configs.values() for kind in config.negatives}
    for key in of_runs:
        if _kind(key) and _kind(key) not in kinds:
            known = schema.nearest(_kind(key), kinds) if kinds else "there are none"
            raise UserError(f"config.{key}: no variant has negatives of this kind; {known}")


def _check(study: Study, configs: Mapping[str, Config]) -> None:
    for name in configs:
        if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
            raise UserError(f"config.variants: {name!r} names a folder: use letters, digits and _ + - .")
    if not study.seeds or len(set(study.seeds)) < len(study.seeds):
        raise UserError(f"config.seeds = {study.seeds!r}: give different seeds, at least one")
    mentioned = [("baseline", [study.baseline] if study.baseline else []), ("published.rows", study.published.rows)]
    mentioned += [(f"variants.{name}.against", [v.against]) for name, v in study.variants.items() if v.against]
    for key, names in [*mentioned, *((f"sweeps.{axis}", values) for axis, values in study.sweeps.items())]:
        for name in names:
            if name not in configs:
                raise UserError(f"config.{key}: {name!r} is no variant; {schema.nearest(name, configs)}")
    first = next(iter(configs))
    protocols = {name: _protocol(config) for name, config in configs.items()}
    for name, protocol in protocols.items():
        changes = config_lib.difference(protocols[first], protocol)
        if changes:
            raise UserError(
                f"variant {name}: is measured in another way than {first} ({'; '.join(changes)}); "
                "set this for all runs, in config.overrides or config.evaluate"
            )


def _protocol(config: Config) -> dict[str, Any]:
    """What has to be the same for all variants, or their figures do not compare."""
    whole = config_lib.to_dict(config)
    evaluation = {k: v for k, v in whole["evaluation"].items() if k not in ("every_epochs", "online", "batch")}
    evaluation["train_split"] = evaluation["train_split"] or whole["data"]["train_split"]  # what the probe learns from
    return {"evaluation": evaluation, "data": {k: whole["data"][k] for k in ("name", "test_split")}}
