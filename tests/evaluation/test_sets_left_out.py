"""Test sets, and whole evaluations, that cannot be measured: what is said, when, and what stands all the same."""

import dataclasses
import json
import re
import shutil
from unittest import mock

import jax
import numpy as np
import pytest
from builders import Jpegs

from ncl_jax.data import datasets, prepared, rows
from ncl_jax.errors import UserError
from ncl_jax.evaluation import protocol, report, sets


def test_what_fails_in_the_middle_costs_its_set_alone(make_subject, drawn, monkeypatch, caplog):
    monkeypatch.setattr(sets.edges, "run", lambda *_: 1 / 0)
    results = protocol.evaluate(make_subject({"edges": {}, "few_shot": {"shares": (0.5,)}}))
    assert set(results["sets"]) == {"few_shot"}
    assert results["skipped"] == {"edges": "ZeroDivisionError: division by zero"}
    assert "Traceback" in caplog.text


def test_numbers_of_numpy_are_written_and_what_cannot_be_costs_its_set_alone(make_subject, drawn, monkeypatch, caplog):
    monkeypatch.setattr(sets.edges, "run", lambda *_: {"top1": np.float32(0.5), "images": np.int64(3)})
    monkeypatch.setattr(sets.textures, "run", lambda *_: {"top1": {0.5}})
    results = protocol.evaluate(make_subject({"edges": {}, "textures": {}}))
    assert json.loads(json.dumps(results["sets"]))["edges"] == {"kind": "edges", "top1": 0.5, "images": 3}
    assert results["skipped"] == {"textures": "TypeError: Object of type set is not JSON serializable"}


def test_no_process_leaves_out_a_set_that_the_others_wait_in(make_subject, drawn, tmp_path, monkeypatch):
    """Records that do not read may be one process's alone; whatever else is wrong, all of them see."""
    prepared.prepare(lambda: Jpegs(data_dir=str(drawn / "tfds")))
    shutil.copytree(drawn / "tfds" / "jpegs", tmp_path / "jpegs")
    file = next(tmp_path.rglob("jpegs-train.tfrecord*"))
    file.write_bytes(file.read_bytes()[:5000])
    subject = make_subject({"edges": {}}, data={"data_dir": str(tmp_path)})
    chosen = subject.config.evaluation.sets
    with pytest.raises(UserError, match="is damaged") as damaged:
        subject.features(subject.open("jpegs", "train"))
    monkeypatch.setattr(sets.edges, "run", mock.Mock(side_effect=damaged.value))
    assert sets.run(subject, chosen) == ({}, {"edges": str(damaged.value)})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="is damaged"):
        sets.run(subject, chosen)
    monkeypatch.setattr(sets.edges, "run", mock.Mock(side_effect=UserError("no class in common")))
    assert sets.run(subject, chosen) == ({}, {"edges": "no class in common"})


def test_images_without_labels_are_one_line_before_any_compute(make_subject, drawn, monkeypatch):
    monkeypatch.setattr(rows, "first_labels", lambda dataset, most: np.array([1, -1, 2]))
    with pytest.raises(UserError, match="has images without a label; name another split"):
        protocol.check(make_subject({}))


def test_numbers_that_count_no_classes_are_no_labels(make_subject, monkeypatch):
    """As a feature `tf.int64` called label."""
    opened = datasets.open_dataset
    monkeypatch.setattr(
        datasets, "open_dataset", lambda *a, **k: dataclasses.replace(opened(*a, **k), num_classes=None)
    )
    with pytest.raises(UserError, match="its feature label has no number of classes"):
        protocol.check(make_subject({}))


def test_images_of_one_class_are_measured_by_what_needs_no_labels(make_subject, drawn, tmp_path):
    """As unlabelled ones in a folder have it: known and said before training, and no reason to stop."""
    (tmp_path / "all").symlink_to(drawn / "data" / "train" / "n02132136")
    chosen = {
        "feature_statistics": {"images": 8},
        "neighbours": {"queries": 2, "count": 3},
        "pets": {
            "kind": "transfer",
            "dataset": f"folder:{drawn}/categories",
            "train_split": "train[:60%]",
            "test_split": "train[60%:]",
        },
        "edges": {},
        "few_shot": {},
    }
    said = []
    data = {"name": f"folder:{tmp_path}", "train_split": "train[:60%]", "test_split": "train[60%:]"}
    subject = make_subject(chosen, data=data, say=said.append, online=("edges", "feature_statistics"), knn_k=200)
    there, missing = protocol.check(subject)
    assert [*there], [*missing] == (["feature_statistics", "neighbours", "pets"], ["edges", "few_shot"])
    assert said[0].startswith("left out: kNN, linear probe: all images of folder:")
    assert said[0].endswith("[train[:60%]] have the same label or none, and it takes two classes or more")
    found = protocol.evaluate(subject)
    assert {"knn_top1", "linear_top1", "train_images"}.isdisjoint(found)
    assert found["test_images"] == 8
    assert [*found["sets"]] == [*there]
    assert [*found["skipped"]] == ["kNN, linear probe", "edges", "few_shot"]
    assert found["sets"]["neighbours"] == {"kind": "neighbours"}
    assert found["sets"]["pets"]["top1"] >= 0
    assert "left out: kNN, linear probe: " in report.table(found)
    assert {measure.key.partition("/")[0] for measure in protocol.online(subject)} == {"feature_statistics"}
    assert report.table({"skipped": {"edges": "no probe"}}) == "results\nleft out: edges: no probe"  # and no empty rows


def test_a_misspelt_split_is_refused(make_subject, drawn):
    prepared.prepare(lambda: Jpegs(data_dir=str(drawn / "tfds")))
    for name in (f"folder:{drawn}/data", "jpegs"):
        subject = make_subject({"domain": {"dataset": name, "split": "trian[:3]"}})
        with pytest.raises(UserError, match="no split 'trian'; did you mean 'train'"):
            protocol.check(subject)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "categories"}, "needs dataset"),
        ({"kind": "transfer"}, "needs dataset"),
        ({"kind": "domain", "dataset": "folder:{drawn}/data", "split": "other"}, "no split 'other'; it has"),
        ({"kind": "stylized", "adain_vgg": "x.pth"}, "give both or none"),
        ({"kind": "corruptions", "names": ("fogg",)}, "did you mean 'fog'"),
        ({"kind": "corruptions", "severities": (6,)}, "one of 1, 2, 3, 4, 5"),
        ({"kind": "corruptions", "names": ()}, "names of a set of kind corruptions are empty"),
        ({"kind": "corruptions", "severities": ()}, "severities of a set of kind corruptions are empty"),
    ],
)
def test_what_is_set_as_it_can_be_nowhere_is_refused(make_subject, drawn, settings, message):
    """A run without what was asked for would end well."""
    settings = {k: v.format(drawn=drawn) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(UserError, match=re.escape(message)):
        protocol.check(make_subject({"asked": settings}))


def test_a_missing_set_is_named_and_the_others_run(make_subject, drawn):
    said = []
    subject = make_subject({"edges": {}, "sketch": {"kind": "domain", "dataset": "imagenet_sketch"}}, say=said.append)
    found = protocol.evaluate(subject)
    assert set(found["sets"]) == {"edges"}
    assert "not prepared" in found["skipped"]["sketch"]
    protocol.check(subject)
    assert any(line.startswith("left out: sketch: ") for line in said)
    assert "left out: sketch: " in report.table(found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "domain", "dataset": "folder:{drawn}/empty"}, "no images found"),
        (
            {"kind": "domain", "dataset": "folder:{drawn}/categories"},
            "no class in common ('airplane' against 'n02132136')",
        ),
        ({"kind": "cue_conflict", "dataset": "folder:{drawn}/categories"}, "is not named shapeN-textureM"),
        ({"kind": "cue_conflict"}, "no split 'cue_conflict'; it has"),
        ({"kind": "transfer", "dataset": "folder:{drawn}/categories"}, "12 of the 12 images of test are in train too"),
        ({"kind": "stylized", "styles": "folder:{drawn}/none"}, "no such folder"),
        ({"kind": "real"}, "not prepared"),
        ({"kind": "real", "labels": "{drawn}/none.json"}, "no ReaL labels"),
        ({"kind": "finetune", "train": "folder:{drawn}/categories"}, "its classes are not those of"),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_compute(make_subject, drawn, settings, message):
    (drawn / "empty").mkdir(exist_ok=True)
    settings = {k: v.format(drawn=drawn) if isinstance(v, str) else v for k, v in settings.items()}
    subject = make_subject({"asked": settings}, data={"data_dir": str(drawn / "nothing")})
    subject.encoder = None  # nothing is encoded
    _, missing = protocol.check(subject)
    assert message in missing["asked"]
    assert "\n" not in missing["asked"]


def test_corrupt_images_cost_their_set_alone(make_subject, tmp_path):
    (tmp_path / "n02132136").mkdir()
    for index in range(4):
        (tmp_path / "n02132136" / f"{index}.jpg").write_bytes(b"\xff\xd8\xff no image")
    found = protocol.evaluate(
        make_subject({"broken": {"kind": "domain", "dataset": f"folder:{tmp_path}"}, "edges": {}})
    )
    assert found["sets"]["edges"]["images"] == 21
    assert found["skipped"] == {"broken": "features: the dataset gave no images; check its name and split"}


def test_a_probe_of_one_class_and_the_same_images_twice_are_one_line(make_subject, drawn):
    with pytest.raises(UserError, match="takes at least two classes"):
        _ = make_subject({}, data={"name": f"folder:{drawn}/one"}).probe
    with pytest.raises(UserError, match="images of test are in train too"):
        protocol.check(make_subject({}, data={"name": f"folder:{drawn}/categories"}))
