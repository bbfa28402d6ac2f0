"""What is measured on a run or a checkpoint: kNN, a linear probe and, with that one probe, every test set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ncl_jax import checkpoint, convert, methods, optim, parallel, progress, state, storage, workdir
from ncl_jax.config import Config
from ncl_jax.data import overlap, rows
from ncl_jax.errors import UserError
from ncl_jax.evaluation import curves, knn, report, sets
from ncl_jax.evaluation.rows import Measure
from ncl_jax.evaluation.subject import Encoder, Subject

__all__ = ["Encoder", "Subject", "check", "evaluate", "evaluate_run", "evaluate_torch", "evaluate_workdir", "online"]

_BY_LABELS = "kNN, linear probe"  # left out where there are none


def subject_of(encoder: Encoder, current: state.TrainState) -> Subject:
    """The online backbone of a run's state: its variables are whole on every device also where each holds a share."""
    variables = {"params": current.params["backbone"], "batch_stats": current.extra["batch_stats"]["backbone"]}
    return Subject(encoder, jax.device_put(variables, parallel.replicated(encoder.mesh)), current=current)


def check(subject: Subject) -> tuple[dict[str, Any], dict[str, str]]:
    """Look at everything that will be read, before hours are spent, and say what is not there.

    Returns the test sets that are there, and why each of the others is not. Raises UserError where in-domain images
    are missing or have no labels.
    """
    test = subject.open()
    overlap.need_other_images(subject.train_set, test)
    for dataset in (subject.train_set, test):
        if (rows.first_labels(dataset, rows.LOOKED_AT) < 0).any():
            raise UserError(f"dataset {dataset.name}[{dataset.split}]: has images without a label; name another split")
    settings = subject.config.evaluation
    if subject.unlabelled:
        subject.say(f"left out: {_BY_LABELS}: {subject.unlabelled}")
    else:
        knn.check_k(settings.knn_k, subject.train_set.num_examples)
    there, missing = sets.available(subject, settings.sets)
    for name, reason in missing.items():
        subject.say(f"left out: {name}: {reason}")
    return there, missing


def online(subject: Subject) -> list[Measure]:
    """What is measured while a run goes on: kNN and, by a probe of that moment, the sets of `evaluation.online`."""
    settings = subject.config.evaluation
    results: dict[str, Any] = {} if subject.unlabelled else {"knn_top1": subject.knn()}
    if settings.online:
        there, _ = sets.available(subject, {name: settings.sets[name] for name in settings.online})
        if not subject.unlabelled:
            results["linear_top1"] = subject.linear()
        results["sets"], _ = sets.run(subject, there)
    return report.measures(results)


def evaluate(subject: Subject) -> dict[str, Any]:
    """kNN, linear probe and all test sets of `config.evaluation.sets`. Shares and accuracies are in [0, 1].

    Of training images that all have one label, as unlabelled ones in a folder, only the sets that need no labels.
    Besides, the `step` of a run and the `datasets` that were read: version, split and number of records.
    """
    config = subject.config
    there, missing = sets.available(subject, config.evaluation.sets)  # the table says what is missing
    subject.opened.clear()  # to tell only of what is measured
    results: dict[str, Any] = {"dataset": f"{config.data.name}, {config.data.test_split}"}
    results["test_images"] = len(subject.test["label"])
    if subject.unlabelled:
        missing = {_BY_LABELS: subject.unlabelled} | missing
    else:
        results["train_images"] = len(subject.train["label"])
        results |= {"knn_top1": subject.knn(), "linear_top1": subject.linear()}
    results["sets"], failed = sets.run(subject, there)
    if subject.current is not None:
        results["step"] = int(subject.current.step)
    in_domain = {dataset.title: dataset.num_examples for dataset in (subject.train_set, subject.open())}
    return results | {"skipped": missing | failed, "datasets": in_domain | subject.opened}


def evaluate_run(subject: Subject, run_dir: Path, *, name: str = "", changed: Sequence[str] = ()) -> dict[str, Any]:
    """`evaluate`, written to `results.json` (or `results_NAME.json`) and shown; the curves of the run drawn anew, but
    for another evaluation than its own (`name`), which also notes what is `changed`. What was measured on the subject
    before is not measured again."""
    subject.folder, subject.name, subject.say = run_dir, name, speaker()
    results = evaluate(subject) | ({"changed": list(changed)} if name else {})
    if jax.process_index() == 0:
        path = run_dir / (f"results_{name}.json" if name else "results.json")
        workdir.write_json(path, results)
        progress.say(report.table(results))
        if name:
            progress.say(f"wrote {path}")
            return results
        units = {
            measure.key: (measure.title, measure.unit) for measure in report.measures(results) if "/" in measure.key
        }
        curves.draw(run_dir / "metrics.jsonl", run_dir / "curves.png", units)
    return results


def evaluate_workdir(config: Config, folder: str, *, name: str = "") -> dict[str, Any]:
    """`evaluate_run` on the newest good checkpoint of a workdir. `name`: of the evaluation, for its file."""
    run_dir = storage.locate(folder)
    changed = workdir.changes(run_dir, config)
    mesh = parallel.data_mesh()
    encoder = Encoder(config, mesh)
    check(Subject(encoder, {}, say=speaker()))
    subject = subject_of(encoder, restore(config, run_dir, mesh)[0])
    return evaluate_run(subject, run_dir, name=name, changed=changed)


def evaluate_torch(config: Config, file: str, folder: str, *, stem: str | None = None) -> dict[str, Any]:
    """`evaluate` on a checkpoint of another framework, written to `folder/results.json` and shown as a table.

    The network is the file's; of the config's `model` only the precision counts. `stem`: see `convert.load_torch`.
    """
    mesh, target = parallel.data_mesh(), storage.locate(folder)
    try:
        with storage.reaching(target):
            if (target / "config.json").exists():
                raise UserError(f"--workdir={target}: holds a run; choose another folder for the results of --torch")
            target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={target}: cannot be written: {error.strerror}") from error
    network = convert.load_torch(file, stem=stem)
    say = speaker()
    say(f"{file}: {network.layout}: {network.describe()}")
    model = network.encoder().clone(dtype=jnp.dtype(config.model.dtype))
    variables = jax.device_put(network.variables, parallel.replicated(mesh))  # else sent again with every batch
    subject = Subject(Encoder(config, mesh, model), variables, folder=target, foreign=True, say=say)
    check(subject)
    results = {"checkpoint": str(file), "network": f"{network.layout}: {network.describe()}"} | evaluate(subject)
    if jax.process_index() == 0:
        workdir.write_json(target / "results.json", results)
        progress.say(report.table(results))
    return results


def restore(config: Config, run_dir: Path, mesh: Mesh) -> tuple[state.TrainState, Mapping[str, Any]]:
    """The state of a workdir's newest good checkpoint, and its notes."""
    with checkpoint.Checkpoints(run_dir, reading=True) as checkpoints:
        if not checkpoints.steps:
            raise UserError(f"--workdir={run_dir}: holds no checkpoint; pretrain there first")
        method, optimizer = methods.build(config, 1), optim.optimizer(config, 1)
        num_classes = checkpoints.notes()["num_classes"]
        target = state.abstract(config, method, optimizer, num_classes=num_classes)
        restored = checkpoints.restore(target, parallel.replicated(mesh))
    assert restored is not None
    return restored


def speaker() -> Callable[[str], None]:
    """Prints on the first process alone."""
    return progress.say if jax.process_index() == 0 else (lambda line: None)
