"""What is evaluated: a frozen encoder, its features of any split, and one probe trained on clean in-domain images."""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt8

from ncl_jax import models, parallel, progress, state
from ncl_jax.augment.views import normalize
from ncl_jax.config import Config
from ncl_jax.data import datasets, stream
from ncl_jax.errors import Mistake, NoSplit, UserError
from ncl_jax.evaluation import augmented_probe, features, kept_batches, knn, linear_probe

Variables = Mapping[str, Any]
Features = dict[str, np.ndarray]  # of `features.extract`
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Encoder:
    """Frozen features of uint8 images, compiled once for all splits and variables; and the images of small splits.

    It lives as long as a run, and so do the programs of the sets that are measured again and again (`once`).
    """

    def __init__(self, config: Config, mesh: Mesh, model: models.ResNet | None = None) -> None:
        self.config, self.mesh = config, mesh
        self.model = model = model or models.encoder(config.model)
        self.batch = -(-config.evaluation.batch // mesh.size) * mesh.size
        self.kept = kept_batches.KeptBatches()

        def encode(variables: Variables, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b d"]:
            return jnp.asarray(model.apply(variables, normalize(images), train=False))

        self.encode = jax.jit(encode)
        self.encode_views = jax.jit(lambda variables, views: model.apply(variables, views, train=False))  # normalised
        self.classify = jax.jit(lambda variables, probe, images: _probabilities(encode(variables, images), probe))
        self._programs: dict[Hashable, Any] = {}

    def once(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """`build()`, a jitted function, made where there is none of this `key` yet: a new one would compile anew.

        The key tells it from all others. It must not hold on to a Subject, whose features are large.
        """
        if key not in self._programs:
            self._programs[key] = build()
        return self._programs[key]

    def on_devices(self, key: Hashable, build: Callable[[], Callable[..., Any]]) -> Callable[..., np.ndarray]:
        """The function that `build` gives, of host arrays `[b ...]`, computed by this process's own devices, each a
        part of the batch; `once` of the key.

        What it does with an image must not depend on the others.
        """

        def compiled() -> Callable[..., Any]:
            mesh, split = self.own_mesh, PartitionSpec(parallel.DATA_AXIS)
            return jax.jit(jax.shard_map(build(), mesh=mesh, in_specs=split, out_specs=split, check_vma=False))

        function = self.once(key, compiled)
        return lambda *arrays: np.asarray(function(*map(self.place, arrays)))

    def place(self, array: np.ndarray) -> jax.Array:
        """A batch of this process on its own devices, a part on each."""
        return jax.device_put(array, parallel.batch_sharding(self.own_mesh))

    @functools.cached_property
    def own_mesh(self) -> Mesh:
        """Of the devices of `mesh` those of this process."""
        return parallel.data_mesh([d for d in self.mesh.devices.flat if d.process_index == jax.process_index()])


class Subject:
    """An encoder with the variables of one moment. Features and the probe are made when first asked for.

    Attributes:
      config: says which dataset is in domain (`data`) and how things are measured (`evaluation`).
      variables: `params` and `batch_stats` of the backbone.
      current: the whole state of the run that they come from; None before it is read.
      foreign: a checkpoint of another framework, which has no such state.
      folder: where figures go; None: nowhere.
      name: of the evaluation, empty for a run's own; part of its figures' names.
      measured: the name of the set that is being measured, empty where that is its kind; likewise.
      opened: the numbers of records of the splits that were opened so far, by their titles.
    """

    def __init__(
        self,
        encoder: Encoder,
        variables: Variables,
        *,
        current: state.TrainState | None = None,
        folder: Path | None = None,
        foreign: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.encoder, self.variables, self.current, self.folder, self.say = encoder, variables, current, folder, say
        self.foreign, self.name, self.measured = foreign, "", ""
        self.opened: dict[str, int] = {}
        self.config, self.model, self.mesh = encoder.config, encoder.model, encoder.mesh

    def figure(self, stem: str) -> Path | None:
        """The PNG file to draw in the folder; None where there is none, or another process draws."""
        file = "_".join(part.replace("/", "_") for part in (stem, self.measured, self.name) if part)
        return self.folder / f"{file}.png" if self.folder and jax.process_index() == 0 else None

    def open(self, name: str = "", split: str = "", *, labels: bool = True) -> datasets.Dataset:
        """The handle of a split, a labelled one unless said otherwise; of the in-domain test split by default.

        Raises Mistake for a split that the dataset `name` does not have; in domain it is merely missing (NoSplit).
        """
        data = self.config.data
        try:
            dataset = datasets.open_dataset(name or data.name, split or data.test_split, data_dir=data.data_dir)
        except NoSplit as error:
            if name:
                raise Mistake(str(error)) from error
            raise
        self.opened[dataset.title] = dataset.num_examples
        return dataset.need_labels() if labels else dataset

    def batches(self, dataset: datasets.Dataset, *, whole: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """This process's part of every image once, in order: `stream.eval_batches`. Not to be changed in place.

        `whole`: for stimuli that fill their images, as published sets of squares do: the shorter side goes to the
        image size and not to `evaluation.resize`, which would enlarge them and cut their border off.
        """
        batches = self.encoder.kept.read(*self._reading(dataset, whole=whole))
        countdown = progress.Countdown(dataset.title, dataset.num_examples, self.say)
        return progress.told(batches, countdown, each=self.encoder.batch)

    def _resize(self, dataset: datasets.Dataset, *, whole: bool = False) -> int:
        """To what the shorter side of its images goes: published squares stay whole."""
        size = self.config.data.image_size
        return size if whole or dataset.image_shape == (size, size) else self.config.evaluation.resize

    def _reading(
        self, dataset: datasets.Dataset, *, whole: bool = False
    ) -> tuple[Hashable, Callable[[], Iterator[dict[str, np.ndarray]]]]:
        """What tells the batches of a dataset from others, and what reads them."""
        size, resize = self.config.data.image_size, self._resize(dataset, whole=whole)
        read = functools.partial(stream.eval_batches, dataset, batch=self.encoder.batch, size=size, resize=resize)
        return (dataset.name, dataset.split, resize), read

    @contextlib.contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """While the block runs, images of the training and test split are read in the background, where they are kept:
        kNN, which wants all of them, then does not wait for the files."""
        ahead, room = {}, self.encoder.kept.room
        for dataset in () if self.unlabelled else (self.train_set, self.open()):
            room -= dataset.num_examples * self.config.data.image_size**2 * 3 // jax.process_count()
            if room >= 0:
                key, read = self._reading(dataset)
                ahead[key] = read
        with self.encoder.kept.reading(ahead):
            yield

    def images(self, dataset: datasets.Dataset, count: int) -> UInt8[np.ndarray, "n s s 3"]:
        """The first `count` images that decode, or as many as there are; every process has them all."""
        size, resize, found = self.config.data.image_size, self._resize(dataset), []
        batches = stream.eval_batches(dataset, batch=64, size=size, resize=resize, process=(0, 1))
        for batch in batches:
            found.extend(batch["image"][batch["mask"]])
            if len(found) >= count:
                break
        if not found:
            raise UserError(f"dataset {dataset.name}[{dataset.split}]: none of its images decodes")
        return np.stack(found[:count])

    def features(self, dataset: datasets.Dataset, change: Change | None = None, *, whole: bool = False) -> Features:
        """`features` float32 [n d], `label` and other integer fields [n] of every image, on every process.

        `change(images, ids) -> images` draws this process's images anew before they are encoded; `whole`: as of
        `batches`.
        """
        batches = self.batches(dataset, whole=whole)
        if change:
            batches = ({**batch, "image": change(batch["image"], batch["id"])} for batch in batches)
        return features.extract(
            lambda images: self.encoder.encode(self.variables, images),
            batches,
            sharding=parallel.batch_sharding(self.mesh),
        )

    @functools.cached_property
    def train_set(self) -> datasets.Dataset:
        """The labelled images that kNN and probe learn from."""
        return self.open(split=self.config.evaluation.train_split or self.config.data.train_split)

    @functools.cached_property
    def unlabelled(self) -> str:
        """Why there is neither kNN nor probe, where that is known without reading the images; else empty."""
        dataset = self.train_set
        labels = dataset.folder_labels
        if self.num_classes > 1 and (labels is None or len(np.unique(labels)) > 1):
            return ""
        whole = f"{dataset.name}[{dataset.split}]"
        return f"all images of {whole} have the same label or none, and it takes two classes or more"

    @functools.cached_property
    def num_classes(self) -> int:
        return self.train_set.num_classes or 0

    @functools.cached_property
    def train(self) -> Features:
        self.say(f"extracting features of {self.train_set.name}, {self.train_set.split}")
        return self.features(self.train_set)

    @functools.cached_property
    def test(self) -> Features:
        return self.features(self.open())

    @functools.cached_property
    def probe(self) -> linear_probe.Probe:
        """On the stored features, or as the paper does on crops and flips of the training images."""
        train = self.train if self.config.evaluation.probe == "features" else None
        self.say("training the linear probe")
        if train is None:
            return augmented_probe.fit(self.config, self.model, self.variables, self.train_set, self.mesh, say=self.say)
        return linear_probe.fit(train["features"], train["label"], num_classes=self.num_classes, seed=self.config.seed)

    def knn(self) -> float:
        """kNN top-1 in [0, 1] on the test split."""
        settings = self.config.evaluation
        return knn.accuracy(
            self.train,
            self.test,
            num_classes=self.num_classes,
            k=settings.knn_k,
            temperature=settings.knn_temperature,
        )

    def linear(self) -> float:
        """Top-1 in [0, 1] of the probe on the test split."""
        return self.probe.accuracy(self.test["features"], self.test["label"])

    @functools.cached_property
    def _local(self) -> tuple[Any, Any]:
        """Variables and probe on this process's own devices."""
        whole = parallel.replicated(self.encoder.own_mesh)
        probe = {name: getattr(self.probe, name) for name in ("kernel", "bias", "mean", "scale")}
        variables = jax.tree.map(parallel.local_value, self.variables)
        return jax.device_put(variables, whole), jax.device_put(probe, whole)

    def predict(self, images: UInt8[Any, "b s s 3"]) -> Float[Array, "b c"]:
        """Class probabilities of images of this process: no other process takes part, nothing waits for the result."""
        return self.encoder.classify(*self._local, self.encoder.place(images))


def _probabilities(features: Float[Array, "b d"], probe: Mapping[str, Any]) -> Float[Array, "b c"]:
    scores = jnp.matmul((features - probe["mean"][None]) / probe["scale"][None], probe["kernel"], precision="highest")
    return jax.nn.softmax(scores + probe["bias"][None])
