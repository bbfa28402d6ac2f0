"""From a config file and command-line overrides to frozen, typed, checked settings.

A config file names only what differs from the defaults below (the paper's settings). Everything wrong is found here,
before any work.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ncl_jax import config_file, schema
from ncl_jax.errors import UserError
from ncl_jax.schema import option

# Settings classes of the open families. `ncl_jax.methods`, `ncl_jax.negatives` and `ncl_jax.evaluation.sets` fill these
# from their registries, so that a new method, negative or test set brings its own keys and this file stays as it is.
METHODS: dict[str, type] = {}
NEGATIVES: dict[str, type] = {}
TEST_SETS: dict[str, type] = {}


@dataclasses.dataclass(frozen=True)
class Data:
    """What is read. `name` is a TFDS name, a built-in builder, or `folder:PATH` with `PATH/split/label/*.jpg|png`."""

    name: str = "imagenet100"
    data_dir: str = ""  # where TFDS keeps prepared datasets; empty: its own default
    train_split: str = "train"
    test_split: str = "validation"
    image_size: int = option(224, low=8, high=2048)  # pixels; side of the views
    shuffle_buffer: int = option(16384, low=1)  # records, in memory up to twice; a dataset that fits is shuffled whole
    max_bad_share: float = option(0.01, low=0.0, high=1.0)  # stop when more do not decode (in epoch 1: beyond chance)
    cache: str = option("none", choices=("none", "device"))  # device: all images stay there, many steps a call
    cache_size: int | None = option(None, low=8, high=2048)  # pixels; None: the images' own where all are one square


@dataclasses.dataclass(frozen=True)
class Augment:
    """A named recipe and what differs from it; None keeps the recipe's own value."""

    recipe: str = option("moco_v2", choices=("moco_v1", "moco_v2", "byol"))
    crop_scale: tuple[float, float] | None = option(None, above=0.0, high=1.0)  # share of the image's area
    jitter_strength: float = option(1.0, low=0.0)  # multiplies the recipe's colour-jitter ranges
    blur_probability: float | None = option(None, low=0.0, high=1.0)
    seam_shift: int = option(0, low=0)  # pixels; above 0 both views get the seams of patch negatives, and stay readable
    seam_patch_size: tuple[int, int] | None = option(None, low=1)  # of these seams; None: as the patch negatives have


@dataclasses.dataclass(frozen=True)
class Model:
    """The encoder: a ResNet, its batch norm, its precision."""

    name: str = option("resnet50", choices=("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"))
    width: float = option(1.0, above=0.0)  # multiplies the channels of every layer
    stem: str = option("imagenet", choices=("imagenet", "medium", "small"))  # without pooling, stride 2; and 1
    bn_groups: int = option(1, low=1)  # batch statistics per group of batch/bn_groups images; 8 mimics 8 GPUs
    dtype: str = option("float32", choices=("float32", "bfloat16"))  # of the activations; parameters stay float32
    zero_init_residual: bool = False  # blocks begin as the identity, as BYOL's, SimCLR's and MoCo-v3's authors have it
    remat: bool = False  # compute each block's activations again for the gradient: less memory, a third more time


@dataclasses.dataclass(frozen=True)
class Optim:
    """The optimiser and its schedule (cosine to zero)."""

    name: str = option("sgd", choices=("sgd", "lars", "adamw"))
    learning_rate: float = option(0.03, above=0.0)
    per_256: bool = False  # learning_rate is per 256 images: multiply it by batch / 256
    momentum: float = option(0.9, low=0.0, below=1.0)
    weight_decay: float = option(1e-4, low=0.0)
    decay_all: bool = True  # False: no decay (and no LARS adaptation) on biases and batch norm
    warmup_epochs: float = option(0.0, low=0.0)
    schedule: str = option("step", choices=("step", "epoch"))  # cosine moves every step, or every epoch
    shard_state: bool = False  # parameters, optimiser and target split over the devices: same numbers, less memory
    accumulate: int = option(1, low=1)  # parts of the batch that are computed one after another; divides bn_groups


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured: while pretraining every `every_epochs`, and once it is done."""

    every_epochs: int = option(10, low=0)  # kNN, and `online`; 0: never
    online: tuple[str, ...] = ()  # names of `sets` that are measured every so often too, by a probe of that moment
    batch: int = option(256, low=1)
    train_split: str = ""  # labelled images that kNN and probe learn from; empty: data.train_split
    knn_k: int = option(200, low=1)
    knn_temperature: float = option(0.1, above=0.0)
    probe: str = option("features", choices=("features", "augmented"))  # augmented: the paper's protocol
    probe_epochs: int = option(60, low=1)
    probe_learning_rate: float = option(10.0, above=0.0)  # of the augmented probe; the other one is solved
    probe_batch: int = option(128, low=1)
    probe_drops: tuple[float, ...] = option((1 / 2, 2 / 3, 5 / 6), above=0.0, below=1.0)  # of its rate, tenfold each
    resize: int = option(0, low=0)  # shorter side of a test image before the centre crop; 0: 8/7 of data.image_size
    sets: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # name -> settings of one of TEST_SETS


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every_epochs: int = option(1, low=1)
    keep: int = option(2, low=1)  # the newest ones
    keep_every_epochs: int = option(0, low=0)  # besides the newest, those of every n-th epoch for good; 0: none


@dataclasses.dataclass(frozen=True)
class Config:
    """A pretraining run. Defaults: MoCo-v2 on ImageNet-100 in the paper's settings, without negatives."""

    method: Any  # settings of one of METHODS, e.g. `ncl_jax.methods.moco.Settings`
    negatives: Mapping[str, Any]  # kind -> settings of one of NEGATIVES, in the order of the logits
    seed: int = option(0, low=0, high=2**32 - 1)  # what a key of jax tells apart
    epochs: int = option(200, low=1)
    batch: int = option(128, low=1)  # images over all devices
    log_every: int = option(50, low=1)  # steps
    alpha_warmup_epochs: float = option(0.0, low=0.0)  # every alpha rises linearly from 0 over these epochs
    collapse_rank: float = option(2.0, low=0.0)  # warn while the embeddings' effective rank is below; 0: never
    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    optim: Optim = Optim()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()

    @property
    def learning_rate(self) -> float:
        """The peak learning rate, scaled by the batch where the config asks for it."""
        return self.optim.learning_rate * (self.batch / 256 if self.optim.per_256 else 1.0)


def load(path: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The checked config of `path` (`configs/NAME.py` or `configs/NAME.py:variant`) with dotted overrides.

    Raises UserError, one line, for a missing file, an unknown key or variant, a wrong type, a value out of range
    or values that do not fit together.
    """
    raw = config_file.read(path)
    if {"base", "variants"} <= raw.keys():
        raise UserError(f"--config={path}: is a study; run it by ncl-jax study")
    for key, value in (overrides or {}).items():
        config_file.override(raw, key, value)
    return parse(raw)


def parse(raw: Mapping[str, Any]) -> Config:
    """Check a nested dict against the schema and freeze it."""
    raw = dict(raw)
    method = raw.pop("method", {"name": "moco"})
    if isinstance(method, str):
        method = {"name": method}
    if not isinstance(method, Mapping):
        raise UserError(f"config.method = {method!r}: give a name or a section with one")
    method = dict(method)
    name = method.pop("name", "moco")
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(f"config.method.name = {name!r}: unknown; {_known(str(name), METHODS)}")
    negatives = {}
    for kind, settings in config_file.named(raw.pop("negatives", {}), "negatives").items():
        if kind not in NEGATIVES:
            raise UserError(f"config.negatives.{kind}: unknown kind; {_known(kind, NEGATIVES)}")
        if settings is not None:  # None switches off a kind that the file has
            if isinstance(settings, Mapping) and hasattr(METHODS[name], "DEFAULT_ALPHA"):
                settings = {"alpha": METHODS[name].DEFAULT_ALPHA, **settings}  # what alpha means, the loss decides
            negatives[kind] = schema.section(NEGATIVES[kind], settings, f"negatives.{kind}")
            if negatives[kind].alpha == 0:
                del negatives[kind]  # the plain method: in an exponent, 0 would leave a constant in InfoNCE's sum
    _check_method(name, method)
    parsed_method = schema.section(METHODS[name], method, "method")
    evaluation = _evaluation(raw.pop("evaluation", {}))
    config = schema.section(
        Config, raw, "", {"method": parsed_method, "negatives": negatives, "evaluation": evaluation}
    )
    if config.evaluation.resize == 0:  # as 256 is to 224
        resize = round(config.data.image_size * 8 / 7)
        config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, resize=resize))
    _check_pairs(config)
    return config


def _check_method(name: str, settings: Mapping[str, Any]) -> None:
    """UserError for keys of another method, as are left of a config's own where only its name is changed."""
    keys = {method: {field.name for field in dataclasses.fields(of_method)} for method, of_method in METHODS.items()}
    for key in settings:
        others = [method for method, known in keys.items() if key in known]
        if others and name not in others:
            raise UserError(
                f"config.method.{key}: unknown key of {name}, one of {', '.join(others)}; for another method than the "
                f"config's give --config.method=\"{{'name': '{name}'}}\", in place of all that it says of its own"
            )


def _known(name: str, registry: Mapping[str, type]) -> str:
    """What `name` was meant to be, as the end of an error line."""
    if not registry:  # its modules were not imported, as in a script that imports this one alone
        return "none is registered yet: call ncl_jax.register() first, or use ncl_jax.load_config"
    return schema.nearest(name, registry)


def _evaluation(raw: Any) -> Evaluation:
    """The section with its test sets; a set's `kind` is its name where that is one."""
    if not isinstance(raw, Mapping):
        return schema.section(Evaluation, raw, "evaluation")
    raw, sets = dict(raw), {}
    for name, settings in config_file.named(raw.pop("sets", {}), "evaluation.sets").items():
        if settings is None:  # switches off a set that the file has
            continue
        path = f"evaluation.sets.{name}"
        if not isinstance(name, str) or name in ("", "training"):
            raise UserError(
                f"config.evaluation.sets: {name!r} is to name rows of results: give text, and not 'training', under "
                "which a study has what the log says"
            )
        if not isinstance(settings, Mapping):
            raise UserError(f"config.{path} = {settings!r}: is a section; set one of its keys")
        settings = dict(settings)
        kind = settings.pop("kind", name)
        if not isinstance(kind, str) or kind not in TEST_SETS:
            raise UserError(f"config.{path}.kind = {kind!r}: unknown; {_known(str(kind), TEST_SETS)}")
        sets[name] = schema.section(TEST_SETS[kind], settings, path)
    evaluation = schema.section(Evaluation, raw, "evaluation", {"sets": sets})
    unknown = next((name for name in evaluation.online if name not in sets), None)
    if unknown is not None:
        raise UserError(
            f"config.evaluation.online = {evaluation.online!r}: {unknown!r} is none of config.evaluation.sets; "
            f"{schema.nearest(unknown, sets) if sets else 'there are none'}"
        )
    return evaluation


def to_dict(config: Config) -> dict[str, Any]:
    """The nested dict, defaults included, that `parse` turns into an equal config; JSON holds it."""
    result = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    names = {settings: name for name, settings in METHODS.items()}
    result = {k: dataclasses.asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in result.items()}
    result["method"] = {"name": names[type(config.method)], **result["method"]}
    result["negatives"] = {kind: dataclasses.asdict(settings) for kind, settings in config.negatives.items()}
    kinds = {settings: kind for kind, settings in TEST_SETS.items()}
    result["evaluation"]["sets"] = {
        name: {"kind": kinds[type(settings)], **dataclasses.asdict(settings)}
        for name, settings in config.evaluation.sets.items()
    }
    return json.loads(json.dumps(result))


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` for every value in which two nested dicts differ."""
    a, b = _flat(old), _flat(new)
    missing = "(absent)"
    return [
        f"{k}: {a.get(k, missing)} -> {b.get(k, missing)}"
        for k in sorted({*a, *b})
        if a.get(k, missing) != b.get(k, missing)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _check_pairs(config: Config) -> None:
    """Values that are fine alone and wrong together; a family's own settings check themselves."""
    if config.batch % config.model.bn_groups:
        raise UserError(
            f"config.model.bn_groups = {config.model.bn_groups}: does not divide config.batch = {config.batch}"
        )
    if config.model.bn_groups % config.optim.accumulate:
        raise UserError(
            f"config.optim.accumulate = {config.optim.accumulate}: does not divide config.model.bn_groups = "
            f"{config.model.bn_groups}; batch norm must not reach over the parts of a batch"
        )
    if round(64 * config.model.width) < 1:
        raise UserError(f"config.model.width = {config.model.width}: leaves no channel of 64; use 0.01 or more")
    if config.evaluation.resize < config.data.image_size:
        raise UserError(
            f"config.evaluation.resize = {config.evaluation.resize}: is below "
            f"config.data.image_size = {config.data.image_size}"
        )
    if config.data.cache_size is not None and config.data.cache == "none":
        raise UserError(
            f"config.data.cache_size = {config.data.cache_size}: is of config.data.cache = 'device', which is not set"
        )
    if config.optim.warmup_epochs >= config.epochs:
        raise UserError(
            f"config.optim.warmup_epochs = {config.optim.warmup_epochs}: not below config.epochs = {config.epochs}"
        )
    if config.alpha_warmup_epochs > config.epochs:
        raise UserError(
            f"config.alpha_warmup_epochs = {config.alpha_warmup_epochs}: is above config.epochs = {config.epochs}"
        )
    if config.checkpoint.keep_every_epochs % config.checkpoint.every_epochs:
        raise UserError(
            f"config.checkpoint.keep_every_epochs = {config.checkpoint.keep_every_epochs}: is no multiple of "
            f"config.checkpoint.every_epochs = {config.checkpoint.every_epochs}, and only those are saved"
        )
    for settings in (config.method, *config.negatives.values()):
        if hasattr(settings, "check"):
            settings.check(config)
