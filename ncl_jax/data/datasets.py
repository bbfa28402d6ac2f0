"""Which images: a TFDS name, one of our own builders, or `folder:PATH`, opened as one kind of handle.

Nothing is decoded here. A `Dataset` says where the undecoded records lie, how many there are and what their labels
mean; `stream` reads them. TensorFlow Datasets is imported when one of its datasets is opened. Without TensorFlow image
folders, what TFDS stored as array_record, and `shapes_textures` (drawn anew) can be read.
"""

import dataclasses
import difflib
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.data import array_records, folders, splits
from ncl_jax.data.prepared import command, has_tensorflow, import_tfds, prepare
from ncl_jax.errors import Missing, UserError, first_line

# Built on first use from nothing but code or data that is prepared already: name -> module of its TFDS builder.
BUILDERS: dict[str, tuple[str, str]] = {
    "shapes_textures": ("ncl_jax.data.shapes_textures", "ShapesTextures"),
    "imagenet100": ("ncl_jax.data.imagenet100", "Imagenet100"),
}
MADE_BY_COMMAND = ("textures", "imagenet_texture")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Records `skip` to `skip + take` of one file; `start` is the index of the first in the split."""

    path: str
    skip: int
    take: int
    start: int


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split. An example's index, 0 to num_examples - 1 in the order of the files, is its id everywhere.

    Filled are `chunks` (TFRecord files, parsed with `features`), or `paths` (image files) and `folder_labels`, or
    `reader`, which gives any record by its id, as `rows` describes it.
    """

    name: str
    split: str
    num_examples: int
    num_classes: int | None  # None: images without labels
    image_key: str
    label_key: str | None
    extra_keys: tuple[str, ...]  # other class labels, e.g. shape and texture
    image_shape: tuple[int, int] | None  # height and width where all images have the same
    names: Mapping[str, tuple[str, ...]]  # of the classes of every integer feature that has names
    chunks: tuple[Chunk, ...] = ()
    features: Any = dataclasses.field(default=None, repr=False, compare=False)  # tfds.features.FeaturesDict
    paths: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    folder_labels: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    reader: Callable[[int], dict[str, Any]] | None = dataclasses.field(default=None, repr=False, compare=False)
    origin: tuple[Chunk, ...] = ()  # of a reader: where its records come from; of drawn ones the split is the file
    textures: tuple["Dataset", ...] = ()  # their record i belongs to record i of this one
    full_name: str = ""  # TFDS's, with config and version; folders and what is drawn have none

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the labels; empty where they have none."""
        return self.names.get(self.label_key or "", ())

    @property
    def title(self) -> str:
        """By which its images are found again: `cifar10/3.0.2[test]`."""
        return f"{self.full_name or self.name}[{self.split}]"

    def record_name(self, index: int) -> str:
        """What a person needs to find record `index`: the image file, or the TFRecord file and the place in it."""
        if self.paths:
            return self.paths[index]
        if self.reader:
            return f"{self.name}[{self.split}]#{index}"
        for chunk in self.chunks:
            if chunk.start <= index < chunk.start + chunk.take:
                return f"{chunk.path}#{index - chunk.start + chunk.skip}"
        raise IndexError(f"{self.name}[{self.split}] has {self.num_examples} records, no record {index}")

    def need_labels(self) -> "Dataset":
        """This dataset; a UserError where it has no labels, or none that count classes."""
        if self.label_key is None:
            raise UserError(f"dataset {self.name}[{self.split}]: has no labels, and they are needed here")
        if self.num_classes is None:
            raise UserError(
                f"dataset {self.name}[{self.split}]: its feature {self.label_key} has no number of classes, and it is "
                "needed here; prepare it with a ClassLabel"
            )
        return self

    def need_batch(self, batch: int) -> "Dataset":
        """This dataset; a UserError where it does not fill one batch."""
        if self.num_examples < batch:
            raise UserError(
                f"dataset {self.name}[{self.split}]: {self.num_examples} examples are fewer than one batch of {batch}; "
                "lower config.batch"
            )
        return self


def open_dataset(name: str, split: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The handle of `split` (TFDS slices such as `train[:10%]` included) of the dataset `name`.

    `name` is a TFDS name with optional `/config` and `:version`, one of BUILDERS (built into `data_dir` on first
    use), or `folder:PATH` for `PATH/split/label/*.jpg|jpeg|png`; a folder of `PATH/label/*` is one split, under
    whatever name it is asked for (so `a[:80%]` and `a[80%:]` part it). `data_dir` defaults to TFDS's own.
    Raises UserError for what does not exist, is not prepared, is empty or holds no images.
    """
    if not name:
        raise UserError("config.data.name: is empty; give a TFDS name or folder:PATH")
    if name.startswith("folder:"):
        return _folder(name, split)
    if name.partition(":")[0].partition("/")[0] == "shapes_textures" and not has_tensorflow():
        return _drawn(name, split)
    return _handle(name, _builder(name, data_dir), split)


def split_names(name: str, *, data_dir: str | os.PathLike | None = None) -> tuple[str, ...]:
    """The splits of a dataset that have examples; errors as of `open_dataset`."""
    if name.startswith("folder:"):
        return folders.split_names(name)
    infos = _builder(name, data_dir).info.splits
    return tuple(split for split, info in infos.items() if info.num_examples)


def _folder(name: str, split: str) -> Dataset:
    return Dataset(
        name=name,
        split=split,
        image_key="image",
        label_key="label",
        extra_keys=(),
        image_shape=None,
        **folders.fields(name, split),
    )


def _drawn(name: str, split: str) -> Dataset:
    """`shapes_textures` where it cannot be built: the same records, drawn when they are asked for."""
    from ncl_jax.data import drawn_records as drawn

    side = drawn.side_of(name)
    parts = splits.parse(name, split, drawn.COUNTS)
    ids = [(known, index) for known, low, high in parts for index in range(low, high)]
    return Dataset(
        name=name,
        split=split,
        num_examples=len(ids),
        num_classes=len(drawn.SHAPES),
        image_key="image",
        label_key="label",
        extra_keys=("shape", "texture"),
        image_shape=(side, side),
        names={"label": drawn.CLASS_NAMES, "shape": drawn.SHAPES, "texture": drawn.TEXTURES},
        reader=lambda index: {"id": index, **drawn.example(*ids[index], size=side)},
        origin=_chunks((f"shapes_textures/px{side} {known}", low, high - low) for known, low, high in parts),
    )


def _chunks(pieces: Iterable[tuple[str, int, int]]) -> tuple[Chunk, ...]:
    """Of (path, skip, take), one behind the other."""
    chunks, start = [], 0
    for path, skip, take in pieces:
        chunks.append(Chunk(path, skip, take, start))
        start += take
    return tuple(chunks)


def _builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """The TFDS builder of a prepared dataset; our own are prepared where they are not yet."""
    tfds = import_tfds()
    data_dir = os.path.expanduser(data_dir) if data_dir else None
    base, _, config = name.partition(":")[0].partition("/")
    kwargs: dict[str, Any] = {"data_dir": data_dir} if data_dir else {}
    if base in BUILDERS:
        module, builder_class = BUILDERS[base]
        module = importlib.import_module(module)
        _, _, version = name.partition(":")
        if hasattr(module, "config") and config:
            kwargs["config"] = module.config(config)
        elif config:
            raise UserError(f"dataset {name}: {base} has no configs")
        if version:
            kwargs["version"] = version
        try:
            return prepare(lambda: getattr(module, builder_class)(**kwargs))
        except (AssertionError, ValueError) as error:  # a version that does not exist
            raise (
                error if isinstance(error, UserError) else UserError(f"dataset {name}: {first_line(error)}")
            ) from error
    if base in MADE_BY_COMMAND:
        try:
            return tfds.core.read_only_builder.builder_from_files(name, **kwargs)
        except tfds.core.DatasetNotFoundError as error:
            raise Missing(f"dataset {name}: not there; make it with: ncl-jax textures --dataset=...") from error
    try:
        builder = tfds.builder(name, try_gcs=False, **kwargs)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(base, {*BUILDERS, *tfds.list_builders(with_community_datasets=False)}, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        folder = f"folder:{name}" if Path(name).is_dir() else "folder:PATH"
        raise UserError(f"dataset {name!r}: unknown{hint}; a folder of images is {folder}") from error
    except (ValueError, AssertionError, FileNotFoundError, ImportError, RuntimeError) as error:
        raise UserError(f"dataset {name}: {first_line(error)}") from error
    if not builder.is_prepared():
        root = getattr(builder, "_data_dir_root", None) or data_dir or "the default data_dir"
        manual = os.path.join(os.fspath(root), "downloads", "manual")
        first = f"put the files that TFDS's page of {base} names in {manual}, then " if _is_manual(builder) else ""
        run = command(name, data_dir=os.fspath(root))
        raise UserError(f"dataset {name}: not prepared in {root}; {first}run: {run}")
    return builder


def _as_array_record(name: str) -> str:
    """How a dataset that is not drawn or made by our command gets into the format that needs no TensorFlow."""
    base = name.partition(":")[0].partition("/")[0]
    if base in MADE_BY_COMMAND:
        return ""
    if base not in BUILDERS:
        return f"prepare it elsewhere with: {command(name, file_format='array_record')}, or "
    module, builder = BUILDERS[base]  # which TFDS does not know
    build = f"from {module} import {builder}; {builder}(file_format='array_record').download_and_prepare()"
    return f"prepare it elsewhere, in Python, with: {build}, or "


def _is_manual(builder: Any) -> bool:
    return bool(getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None))


def _handle(name: str, builder: Any, split: str) -> Dataset:
    tfds = import_tfds()
    infos = builder.info.splits
    known = ", ".join(infos) or "none"
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, KeyError, AssertionError, NotImplementedError, RecursionError) as error:
        raise splits.unknown(name, split, infos) from error
    # A bound that a whole split does not give is None.
    bounds = [(p.splitname, p.from_ or 0, infos[p.splitname].num_examples if p.to is None else p.to) for p in parts]
    bounds = [(part, low, high) for part, low, high in bounds if high > low]
    if not bounds:
        raise UserError(f"dataset {name}: split {split!r} is empty; it has {known}")
    features = builder.info.features
    image_key, label_key, extra_keys = _keys(name, builder.info)
    integers = [key for key in (label_key, *extra_keys) if key]
    names = {key: tuple(_class_names(features[key])) for key in integers if _class_names(features[key])}
    num_classes = getattr(features[label_key], "num_classes", None) if label_key else None
    shape = features[image_key].shape[:2]
    common: dict[str, Any] = {
        "name": name,
        "split": split,
        "full_name": builder.info.full_name,
        "num_examples": sum(high - low for _, low, high in bounds),
        "num_classes": num_classes,
        "image_key": image_key,
        "label_key": label_key,
        "extra_keys": extra_keys,
        "image_shape": tuple(shape) if all(shape) else None,
        "names": names,
    }
    formats = tfds.core.FileFormat
    if builder.info.file_format not in (formats.TFRECORD, formats.ARRAY_RECORD):
        raise UserError(
            f"dataset {name}: stored as {builder.info.file_format.value}; tfrecord and array_record are read"
        )
    if builder.info.file_format == formats.TFRECORD and not has_tensorflow():
        raise UserError(
            f"dataset {name}: is stored as tfrecord, which only TensorFlow reads, and it is not installed; "
            f"{_as_array_record(name)}use folder:PATH"
        )
    files = [file for part, low, high in bounds for file in infos[f"{part}[{low}:{high}]"].file_instructions]
    chunks = _chunks((os.fspath(file.filename), file.skip, file.take) for file in files)
    missing = (
        next((c.path for c in chunks if not Path(c.path).is_file()), None) if "://" not in chunks[0].path else None
    )
    if missing:
        raise UserError(f"dataset {name}: {missing} is missing; remove its folder and prepare the dataset again")
    if builder.info.file_format == formats.ARRAY_RECORD:
        keys = {image_key: "image"} | ({label_key: "label"} if label_key else {}) | {key: key for key in extra_keys}
        return Dataset(**common, reader=array_records.reader(name, files, features, keys), origin=chunks)
    return Dataset(**common, chunks=chunks, features=features)


def _keys(name: str, info: Any) -> tuple[str, str | None, tuple[str, ...]]:
    """Names of the image, the label and the other integer features."""
    tfds = import_tfds()
    supervised = info.supervised_keys if info.supervised_keys and len(info.supervised_keys) == 2 else ()
    supervised = tuple(key for key in supervised if isinstance(key, str))
    features = info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    image = next((key for key in ("image", *supervised[:1], *images) if key in images), None)
    if image is None:
        raise UserError(f"dataset {name}: has no images; its features are {', '.join(features)}")
    if features[image].np_dtype not in (np.uint8, np.uint16):
        raise UserError(f"dataset {name}: images are {np.dtype(features[image].np_dtype)}; expected uint8")
    integers = [
        key
        for key, feature in features.items()
        if getattr(feature, "shape", None) == () and np.issubdtype(getattr(feature, "np_dtype", object), np.integer)
    ]
    label = next((key for key in ("label", *supervised[1:]) if key in integers), None)
    extra = [key for key in integers if key != label and isinstance(features[key], tfds.features.ClassLabel)]
    return image, label, tuple(key for key in extra if key not in ("id", "mask"))  # names that `stream` uses


def _class_names(feature: Any) -> list[str]:
    """The names of a ClassLabel that has them."""
    return feature.names or [] if hasattr(feature, "names") else []
