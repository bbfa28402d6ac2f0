"""Fine-tuning, on all labels and on a share of them, whatever the records lie in."""

import numpy as np
from builders import Jpegs

from ncl_jax import progress
from ncl_jax.data import datasets, prepared, stream, subset
from ncl_jax.evaluation import augmented_probe, protocol, sets


def test_fine_tuning_learns_more_than_the_probe_of_a_random_encoder(make_subject):
    chosen = {
        "finetune": {"epochs": 20, "batch": 16, "learning_rate": 0.5},
        "half": {"kind": "finetune", "share": 0.5, "epochs": 1, "batch": 16},
    }
    subject = make_subject(chosen)
    there, missing = protocol.check(subject)
    assert not missing
    found, _ = sets.run(subject, there)
    assert found["finetune"]["train_images"] == 60
    assert found["half"]["train_images"] == 30
    assert found["finetune"]["images"] == found["half"]["images"] == 21
    assert found["finetune"]["top1"] > 0.6


def test_how_far_what_takes_long_is_stands_in_lines(make_subject, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    corrupted = {"names": ("contrast",), "severities": (1,), "split": "train"}
    chosen = {"finetune": {"epochs": 2, "batch": 16}, "corruptions": corrupted}
    subject, lines = make_subject(chosen, probe="augmented", probe_epochs=3, probe_batch=32), []
    subject.say = lines.append
    there, _ = protocol.check(subject)
    sets.run(subject, there)
    told = [line.partition(",")[0] for line in lines if line.endswith(" left")]
    trained = [f"fine-tuning: {step} of 6 steps" for step in range(2, 7)] + ["linear probe: 2 of 3 steps"]
    assert [line for line in told if line.endswith("steps")] == trained
    images = [line.partition(": ") for line in told if line.endswith("images")]
    assert {title for title, _, _ in images} == {subject.train_set.title, subject.open().title}
    assert [done for title, _, done in images if title == subject.train_set.title] == [
        f"{done} of 60 images" for done in (32, 48, 60)
    ]


def test_the_probe_fits_few_images_and_any_number_of_devices(make_subject, monkeypatch):
    """Of 60 images and 8 devices a batch of 128 is one of 56, and its rate in proportion."""
    asked = {}
    monkeypatch.setattr(augmented_probe.linear_probe, "fit_augmented", lambda *_, **settings: asked.update(settings))
    subject = make_subject({})
    augmented_probe.fit(subject.config, subject.model, subject.variables, subject.train_set, subject.mesh)
    assert subject.config.evaluation.probe_batch == 128
    assert (subject.mesh.size, subject.train_set.num_examples) == (8, 60)
    assert asked["steps_per_epoch"] == 1
    assert asked["learning_rate"] == subject.config.evaluation.probe_learning_rate * 56 / 128


def test_a_share_of_prepared_records(drawn):
    prepared.prepare(lambda: Jpegs(data_dir=str(drawn / "tfds")))
    whole = datasets.open_dataset("jpegs", "train[5:45]", data_dir=drawn / "tfds")
    ids = np.array([0, 1, 2, 17, 39])
    part = subset.pick(whole, ids)
    assert [(c.skip, c.take, c.start) for c in part.origin] == [(5, 3, 0), (22, 1, 3), (44, 1, 4)]

    def images(dataset):
        batches = stream.eval_batches(dataset, batch=8, size=16, resize=16)
        return np.concatenate([b["image"][b["mask"]] for b in batches])

    np.testing.assert_array_equal(images(part), images(whole)[ids])
    back = datasets.open_dataset("jpegs", "train[30:60]+train[:30]", data_dir=drawn / "tfds")  # falls in its file
    ids = np.array([1, 2, 28, 31, 40, 59])
    np.testing.assert_array_equal(images(subset.pick(back, ids)), images(back)[ids])


def test_a_share_of_records_that_are_read_by_their_index(make_subject, drawn, tmp_path):
    Jpegs(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    data = {"name": "jpegs", "train_split": "train", "test_split": "bad[8:20]", "data_dir": str(tmp_path)}
    subject = make_subject({"half": {"kind": "finetune", "share": 0.5, "epochs": 1, "batch": 16}}, data=data)
    whole = datasets.open_dataset("jpegs", "train", data_dir=tmp_path)
    part = subset.pick(whole, np.array([3, 10, 11]))
    assert [part.reader(i) for i in range(3)] == [whole.reader(k) | {"id": i} for i, k in enumerate((3, 10, 11))]
    assert [(c.skip, c.take, c.start) for c in part.origin] == [(3, 1, 0), (10, 2, 1)]
    there, missing = protocol.check(subject)
    assert not missing
    found, failed = sets.run(subject, there)
    assert not failed
    assert found["half"]["train_images"] == 30
