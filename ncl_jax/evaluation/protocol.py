"""What is measured on a run, with one encoder and one probe: in domain, and where shape and texture disagree."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncl_jax import checkpoint, convert, methods, models, optim, parallel, state, workdir
from ncl_jax.augment.views import normalize
from ncl_jax.config import Config
from ncl_jax.data import datasets, prefetch, stream
from ncl_jax.errors import UserError
from ncl_jax.evaluation import curves, features, knn, linear_probe, report
from ncl_jax.evaluation.shape_bias import shape_bias

Variables = Mapping[str, Any]


def variables_of(current: state.TrainState) -> dict[str, Any]:
    """The online backbone's variables: all that evaluation takes from a state."""
    return {
        "params": current.params["backbone"],
        "batch_stats": current.extra["batch_stats"]["backbone"],
    }


class Encoder:
    """Frozen features of whole splits of the config's dataset; compiled once for all splits and variables.

    `model` stands in for the one that the config describes.
    """

    def __init__(self, config: Config, mesh: Mesh, model: models.ResNet | None = None) -> None:
        model = model or models.encoder(config.model)
        self._config, self._sharding = config, parallel.batch_sharding(mesh)
        self._apply = jax.jit(lambda variables, images: model.apply(variables, normalize(images), train=False))
        self._batch = -(-config.evaluation.batch // mesh.size) * mesh.size

    def __call__(self, variables: Variables, split: str) -> dict[str, np.ndarray]:
        """`features` float32 [n d], `label` and other integer fields [n] of every image of the split."""
        config = self._config
        data = datasets.open_dataset(config.data.name, split, data_dir=config.data.data_dir).need_labels()
        batches = stream.eval_batches(
            data, batch=self._batch, size=config.data.image_size, resize=config.evaluation.resize
        )
        return features.extract(lambda images: self._apply(variables, images), batches, sharding=self._sharding)


def check(config: Config) -> int:
    """Look at every split that the evaluation will read, before hours are spent; the number of classes."""
    train_split = config.evaluation.train_split or config.data.train_split
    splits = [train_split, config.data.test_split, *filter(None, [config.evaluation.cue_conflict_split])]
    opened = [datasets.open_dataset(config.data.name, s, data_dir=config.data.data_dir).need_labels() for s in splits]
    knn.check_k(config.evaluation.knn_k, opened[0].num_examples)
    return opened[0].num_classes or 0


def online_knn(config: Config, encoder: Encoder, variables: Variables) -> float:
    """kNN top-1 in [0, 1] on the test split."""
    train = encoder(variables, config.evaluation.train_split or config.data.train_split)
    return _knn(config, train, encoder(variables, config.data.test_split), check(config))


def evaluate(
    config: Config,
    variables: Variables,
    mesh: Mesh,
    *,
    model: models.ResNet | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """kNN, linear probe and, where the config names a cue-conflict split, decisions by shape and by texture.

    Shares and accuracies are in [0, 1]. `variables` are those of `model`, by default the one the config describes.
    """
    num_classes = check(config)
    model = model or models.encoder(config.model)
    encoder = Encoder(config, mesh, model)
    say("extracting features")
    train = encoder(variables, config.evaluation.train_split or config.data.train_split)
    test = encoder(variables, config.data.test_split)
    results: dict[str, Any] = {
        "dataset": f"{config.data.name}, {config.data.test_split}",
        "train_images": len(train["label"]),
        "test_images": len(test["label"]),
        "knn_top1": _knn(config, train, test, num_classes),
    }
    say("training the linear probe")
    probe = _probe(config, model, variables, train, num_classes, mesh)
    results["linear_top1"] = probe.accuracy(test["features"], test["label"])
    if config.evaluation.cue_conflict_split:
        conflict = encoder(variables, config.evaluation.cue_conflict_split)
        results["cue_conflict"] = shape_bias(
            probe.predict(conflict["features"]), conflict["shape"], conflict["texture"]
        )
    return results


def evaluate_run(config: Config, run_dir: Path, variables: Variables, mesh: Mesh) -> dict[str, Any]:
    """`evaluate`, written to `results.json` and shown as a table; the curves of the run drawn anew."""
    chief = jax.process_index() == 0
    say = print if chief else (lambda line: None)
    results = evaluate(config, variables, mesh, say=say)
    if chief:
        workdir.write_json(run_dir / "results.json", results)
        curves.draw(run_dir / "metrics.jsonl", run_dir / "curves.png")
        print(report.table(results))
    return results


def evaluate_workdir(config: Config, folder: str) -> dict[str, Any]:
    """`evaluate_run` on the newest good checkpoint of a workdir."""
    mesh = parallel.data_mesh()
    check(config)
    run_dir = Path(folder).expanduser().resolve()
    return evaluate_run(config, run_dir, variables_of(restore(config, run_dir, mesh)), mesh)


def evaluate_torch(config: Config, file: str, folder: str, *, stem: str | None = None) -> dict[str, Any]:
    """`evaluate` on a checkpoint of another framework, written to `folder/results.json` and shown as a table.

    The network is the file's; of the config's `model` only the precision counts. `stem`: see `convert.load_torch`.
    """
    mesh, target = parallel.data_mesh(), Path(folder).expanduser()
    if (target / "config.json").exists():
        raise UserError(f"--workdir={target}: holds a run; choose another folder for the results of --torch")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={target}: cannot be written: {error.strerror}") from error
    network = convert.load_torch(file, stem=stem)
    chief = jax.process_index() == 0
    say = print if chief else (lambda line: None)
    say(f"{file}: {network.layout}: {network.describe()}")
    model = network.encoder().clone(dtype=jnp.dtype(config.model.dtype))
    described = {"checkpoint": str(file), "network": f"{network.layout}: {network.describe()}"}
    results = described | evaluate(config, network.variables, mesh, model=model, say=say)
    if chief:
        workdir.write_json(target / "results.json", results)
        print(report.table(results))
    return results


def restore(config: Config, run_dir: Path, mesh: Mesh) -> state.TrainState:
    """The state of a workdir's newest good checkpoint."""
    with checkpoint.Checkpoints(run_dir) as checkpoints:
        if not checkpoints.steps:
            raise UserError(f"--workdir={run_dir}: holds no checkpoint; pretrain there first")
        method, optimizer = methods.build(config, 1), optim.optimizer(config, 1)
        num_classes = checkpoints.notes()["num_classes"]
        target = state.abstract(config, method, optimizer, num_classes=num_classes)
        restored = checkpoints.restore(target, parallel.replicated(mesh))
    assert restored is not None
    return restored[0]


def _knn(config: Config, train: dict[str, np.ndarray], test: dict[str, np.ndarray], num_classes: int) -> float:
    settings = config.evaluation
    return knn.accuracy(train, test, num_classes=num_classes, k=settings.knn_k, temperature=settings.knn_temperature)


def _probe(
    config: Config,
    model: models.ResNet,
    variables: Variables,
    train: dict[str, np.ndarray],
    num_classes: int,
    mesh: Mesh,
) -> linear_probe.Probe:
    """On the stored features, or as the paper does on crops and flips of the training images."""
    settings = config.evaluation
    if settings.probe == "features":
        return linear_probe.fit(train["features"], train["label"], num_classes=num_classes, seed=config.seed)
    split = settings.train_split or config.data.train_split
    data = datasets.open_dataset(config.data.name, split, data_dir=config.data.data_dir)
    batch = max(mesh.size, settings.probe_batch // mesh.size * mesh.size)
    source = stream.CropStream(
        data,
        batch=batch,
        image_size=config.data.image_size,
        seed=config.seed,
        process=stream.jax_process(),
        crop_scale=(0.08, 1.0),
        views=1,
        shuffle_buffer=config.data.shuffle_buffer,
        max_bad_share=config.data.max_bad_share,
    )

    @jax.jit
    def encode(variables: Variables, images: jax.Array, key: jax.Array) -> jax.Array:
        flips = jax.random.bernoulli(key, 0.5, (len(images),))[:, None, None, None]
        flipped = jnp.where(flips, images[:, :, ::-1], images)
        return jnp.asarray(model.apply(variables, normalize(flipped), train=False))

    keys = (jax.random.fold_in(jax.random.key(config.seed), step) for step in itertools.count())
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        return linear_probe.fit_augmented(
            lambda images: encode(variables, images, next(keys)),
            (batch for batch, _ in batches),
            num_classes=num_classes,
            epochs=settings.probe_epochs,
            steps_per_epoch=source.steps_per_epoch,
            learning_rate=settings.probe_learning_rate,
            seed=config.seed,
        )
