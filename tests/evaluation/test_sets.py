"""Every kind of test set on a tiny encoder: what it counts, and that nothing else counts."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from builders_imagenet import GeirhosConflictStimuli, Imagenet2012Real, real_labels

from ncl_jax import config, parallel
from ncl_jax.data import prepared
from ncl_jax.errors import UserError
from ncl_jax.evaluation import protocol, report, sets

CONFIGS = Path(__file__).parents[2] / "configs" / "eval"
ALL = {
    "corruptions": {"names": ("gaussian_noise", "contrast", "jpeg_compression"), "severities": (1, 5)},
    "few_shot": {"shares": (0.1, 0.5), "draws": 2},
    "feature_statistics": {"images": 21},
    "edges": {},
    "textures": {"quality": "draft"},
    "stylized": {"num_styles": 10},
    "classes": {},
    "neighbours": {"queries": 3, "count": 4},
    "feature_map": {},
}


@pytest.fixture(scope="module")
def chosen(drawn):
    return ALL | {
        "cue_conflict": {"dataset": f"folder:{drawn}/cue"},
        "categories": {"dataset": f"folder:{drawn}/categories"},
        "sketch": {"kind": "domain", "dataset": f"folder:{drawn}/sketch", "per_class": True},
        "pets": {
            "kind": "transfer",
            "dataset": f"folder:{drawn}/categories",
            "train_split": "train[:60%]",
            "test_split": "train[60%:]",
        },
    }


@pytest.fixture(scope="module")
def results(make_subject, chosen):
    """All kinds but the trained ones, on one device in batches of 7 and on eight in batches of 32."""
    return [protocol.evaluate(make_subject(chosen, devices=d, batch=b)) for d, b in ((1, 7), (8, 32))]


def numbers(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float, list)):
            yield prefix + key, value


def test_results_depend_neither_on_the_batch_nor_on_the_devices(results):
    one, eight = (dict(numbers(r)) for r in results)
    assert one.keys() == eight.keys()
    assert len(one) > 40
    for key, value in one.items():
        np.testing.assert_allclose(value, eight[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_every_image_counts_once(results, chosen):
    found = results[0]
    assert found["skipped"] == {}
    assert (found["train_images"], found["test_images"]) == (60, 21)
    read = {title.rpartition("/")[2]: count for title, count in found["datasets"].items()}
    assert (read["data[train]"], read["data[test]"], read["cue[test]"], read["categories[test]"]) == (60, 21, 9, 12)
    assert set(found["sets"]) == set(chosen)
    counted = {name: result["images"] for name, result in found["sets"].items() if "images" in result}
    assert counted == {
        "feature_statistics": 21,
        "edges": 21,
        "textures": 21,
        "stylized": 21,
        "feature_map": 21,
        "cue_conflict": 6,
        "categories": 12,
        "sketch": 6,
        "pets": 5,
    }


def test_the_numbers_make_sense(results):
    found = results[0]["sets"]
    assert results[0]["linear_top1"] > 1 / 3  # chance
    cue = found["cue_conflict"]
    assert cue["shape"] + cue["texture"] + cue["other"] == pytest.approx(1)
    assert cue["categories"] == 3
    assert found["sketch"]["classes"] == 1
    assert found["sketch"]["masked"] == 1.0  # only bears are left to choose
    assert found["sketch"]["top1"] == found["sketch"]["per_class"]["n02132136"] < 1.0001
    assert found["categories"]["chance"] == pytest.approx(1 / 3)
    assert found["pets"]["train_images"] == 7
    assert np.mean([*found["classes"]["per_class"].values()]) == pytest.approx(results[0]["linear_top1"])  # 7 of each
    assert found["classes"]["per_class"].keys() == {"n02132136", "n02690373", "n03041632"}
    assert found["stylized"]["styles"] == 10
    assert set(found["few_shot"]) == {"kind", "top1_10%", "top1_50%"}
    assert set(found["corruptions"]["per_severity"]) == {"gaussian_noise", "contrast", "jpeg_compression"}


def test_tables_show_every_set(results):
    table, markdown = report.table(results[0]), report.table(results[0], markdown=True)
    for text in (
        "kNN top-1",
        "shape bias",
        "sketch, masked",
        "edges",
        "stylized",
        "pets, own probe",
        "corruptions, mean of 3 corruptions (severities 1, 5)",
    ):
        assert text in table
        assert f"| {text} |" in markdown
    keys = [measure.key for measure in report.measures(results[0])]
    assert len(keys) == len(set(keys))
    assert "cue_conflict/shape_bias" in keys


def test_sets_of_one_kind_are_told_apart(make_subject, drawn, tmp_path):
    """In tables and by the names of their figures, which another evaluation than the run's own adds its name to."""
    cue = {"kind": "cue_conflict", "dataset": f"folder:{drawn}/cue"}
    subject = make_subject({"cue_conflict": cue, "more/cues": cue})
    subject.folder = tmp_path
    found, _ = sets.run(subject, subject.config.evaluation.sets)
    titles = [measure.title for measure in report.measures({"sets": found})]
    assert titles[3::4] == ["shape bias", "more/cues, shape bias"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shape_bias.png", "shape_bias_more_cues.png"]
    subject.name = "cifar10"
    assert subject.figure("shape_bias") == tmp_path / "shape_bias_more_cues_cifar10.png"


def test_means_over_other_severities_are_not_put_side_by_side(tmp_path):
    for name, severities in (("all", [1, 2, 3, 4, 5]), ("hard", [5]), ("two", [3, 5])):
        found = {"kind": "corruptions", "mean": 0.5, "severities": severities}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"knn_top1": 0.4, "sets": {"corruptions": found}}))
    titles = [report.measures(report.read(tmp_path / name))[-1].title for name in ("all", "hard", "two")]
    assert titles == [f"corruptions, mean{of}" for of in ("", " (severity 5)", " (severities 3, 5)")]
    folders = {name: tmp_path / name for name in ("all", "hard")}
    assert report.comparison(folders).splitlines()[2:] == ["| kNN top-1 | 40.0 % | 40.0 % |"]
    assert len(report.comparison({"one": tmp_path / "hard", "again": tmp_path / "hard"}).splitlines()) == 4


def test_a_table_is_shown_before_curves_are_drawn(monkeypatch, tmp_path, capsys):
    """Which only the run's own evaluation draws anew."""
    monkeypatch.setattr(protocol, "evaluate", lambda subject: {"knn_top1": 0.5, "sets": {}})
    monkeypatch.setattr(protocol.curves, "draw", mock.Mock(side_effect=OSError("full")))
    with pytest.raises(OSError, match="full"):
        protocol.evaluate_run(mock.Mock(), tmp_path)
    assert "kNN top-1  50.0 %" in capsys.readouterr().out
    protocol.evaluate_run(mock.Mock(), tmp_path, name="cifar10")
    assert f"wrote {tmp_path / 'results_cifar10.json'}" in capsys.readouterr().out


def test_real_labels_of_tfds_and_of_the_published_file(make_subject, drawn, tmp_path):
    prepared.prepare(lambda: Imagenet2012Real(data_dir=str(drawn / "tfds")))
    published = tmp_path / "real.json"
    published.write_text(json.dumps([real_labels(i) for i in range(12)]))
    folder = tmp_path / "val" / "x"
    folder.mkdir(parents=True)
    for index in range(12):  # the same images as a folder
        (folder / f"ILSVRC2012_val_{index + 1:08}.jpg").write_bytes(Imagenet2012Real.image(index))
    subject = make_subject(
        {
            "real": {},
            "file": {"kind": "real", "labels": str(published), "dataset": f"folder:{tmp_path}/val", "split": "all"},
        }
    )
    there, missing = protocol.check(subject)
    assert not missing
    found, _ = sets.run(subject, there)
    assert found["real"]["images"] == 9  # three have no label that the probe has learnt
    assert found["file"] == found["real"]


def test_cue_conflict_of_tfds(make_subject, drawn):
    GeirhosConflictStimuli.folder = drawn / "cue"
    prepared.prepare(lambda: GeirhosConflictStimuli(data_dir=str(drawn / "tfds")))
    subject = make_subject({"cue": {"kind": "cue_conflict", "dataset": "geirhos_conflict_stimuli"},
                            "folder": {"kind": "cue_conflict", "dataset": f"folder:{drawn}/cue"}})  # fmt: skip
    there, missing = protocol.check(subject)
    assert not missing
    found, _ = sets.run(subject, there)
    assert found["cue"] == found["folder"]


def test_published_corruptions_as_a_folder(make_subject, drawn):
    root = drawn / "published"
    (root / "fog").mkdir(parents=True)
    (root / "fog" / "1").symlink_to(drawn / "data" / "test")
    subject = make_subject(
        {"stored": {"kind": "corruptions", "dataset": f"folder:{root}", "names": ("fog",), "severities": (1,)}}
    )
    there, missing = protocol.check(subject)
    assert not missing
    found, _ = sets.run(subject, there)
    assert found["stored"]["mean"] == pytest.approx(subject.linear())


def test_published_corruptions_of_tfds_by_their_names():
    opened = []
    ten = mock.Mock(class_names=tuple(map(str, range(10))), num_classes=10)
    subject = mock.Mock(open=lambda name, split: opened.append((name, split)) or ten, train_set=ten)
    for dataset in ("cifar10_corrupted", "cifar10_corrupted:1.0.0", "imagenet2012_corrupted"):
        chosen = sets.corruptions.Settings(names=("glass_blur",), severities=(2,), dataset=dataset)
        sets.corruptions.check(subject, chosen)
    assert opened == [
        ("cifar10_corrupted/frosted_glass_blur_2", "test"),
        ("cifar10_corrupted/frosted_glass_blur_2:1.0.0", "test"),
        ("imagenet2012_corrupted/glass_blur_2", "validation"),
    ]


@pytest.mark.parametrize("numbered", ["set", "probe", "both", "none"])
def test_classes_that_tfds_calls_by_their_numbers_have_no_names(numbered, monkeypatch):
    """cifar10 names its classes, cifar10_1 and cifar10_corrupted do not: TFDS gives "0" to "9"."""
    numbers, names = ("0", "1", "2"), ("bird", "cat", "dog")
    subject = mock.Mock(
        train_set=mock.Mock(class_names=numbers if numbered in ("probe", "both") else names, num_classes=3)
    )
    dataset = mock.Mock(class_names=numbers if numbered in ("set", "both") else names[::-1], num_classes=3)
    place = sets.domain.columns(subject, dataset)
    np.testing.assert_array_equal(place, [2, 1, 0] if numbered == "none" else [0, 1, 2])
    subject.open.return_value = dataset
    monkeypatch.setattr(sets.domain, "score", lambda *_, **__: {})
    sets.domain.run(subject, sets.domain.Settings())
    said = [call.args[0] for call in subject.say.call_args_list]
    assert ["by number" in line for line in said] == [True] * (numbered in ("set", "probe"))
    dataset.num_classes, dataset.class_names = 4, ("0", "1", "2", "3")
    if numbered in ("set", "none"):
        with pytest.raises(UserError, match="no class in common"):
            sets.domain.columns(subject, dataset)


def test_published_corruptions_of_other_classes_are_told_at_the_start():
    dataset = mock.Mock(class_names=("ant", "bee"), num_classes=2)
    subject = mock.Mock(open=lambda *_: dataset, train_set=mock.Mock(class_names=("bird", "cat", "dog"), num_classes=3))
    with pytest.raises(UserError, match="no class in common"):
        sets.corruptions.check(subject, sets.corruptions.Settings(dataset="imagenet2012_corrupted"))


def test_a_mean_over_some_of_the_corruptions_says_so():
    title = sets.corruptions._part
    assert title({"corruptions": 15, "severities": [1, 2, 3, 4, 5]}) == ""
    assert title({"corruptions": 2, "severities": [5, 4, 3, 2, 1]}) == " of 2 corruptions"
    assert title({"corruptions": 1, "severities": [3]}) == " of 1 corruption (severity 3)"
    assert title({"corruptions": 15, "severities": [1, 5]}) == " (severities 1, 5)"


def test_published_images_are_taken_whole(make_subject, drawn, monkeypatch):
    near, far = (make_subject({}, resize=resize) for resize in (32, 48))
    dataset = near.open(f"folder:{drawn}/cue", "train")
    want = near.features(dataset)["features"]
    np.testing.assert_array_equal(far.features(dataset, whole=True)["features"], want)
    assert np.abs(far.features(dataset)["features"] - want).max() > 0.01
    square = dataclasses.replace(dataset, image_shape=(32, 32))  # as TFDS's features tell
    np.testing.assert_array_equal(far.features(square)["features"], want)
    np.testing.assert_array_equal(far.images(square, 5), near.images(dataset, 5))

    features, wholes = protocol.Subject.features, {}

    def recorded(self, dataset, change=None, *, whole=False):
        wholes[dataset.name.rpartition("/")[2]] = whole
        return features(self, dataset, change, whole=whole)

    monkeypatch.setattr(protocol.Subject, "features", recorded)
    chosen = {
        "cue": {"kind": "cue_conflict", "dataset": f"folder:{drawn}/cue"},
        "categories": {"dataset": f"folder:{drawn}/categories"},
        "sketch": {"kind": "domain", "dataset": f"folder:{drawn}/sketch"},
    }
    subject = make_subject(chosen, resize=48)
    sets.run(subject, subject.config.evaluation.sets)
    assert wholes == {"data": False, "cue": True, "categories": True, "sketch": False}


def test_settings_survive_json(chosen, drawn):
    parsed = config.parse({"evaluation": {"sets": chosen | {"f": {"kind": "finetune"}, "r": {"kind": "real"}}}})
    assert config.parse(json.loads(json.dumps(config.to_dict(parsed)))) == parsed


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_shipped_configs_name_what_there_is(path, tmp_path):
    """Every dataset is known to TFDS, or ours, or a folder that the file's first lines or a comment speak of."""
    loaded = config.load(str(path), {"data.data_dir": str(tmp_path)})
    if loaded.data.name.startswith("shapes_textures"):  # it is built on first use
        return
    encoder = protocol.Encoder(loaded, parallel.data_mesh())
    _, missing = sets.available(protocol.Subject(encoder, {}), loaded.evaluation.sets)
    assert len(missing) > 4
    expected = ("not prepared", "no such folder", "not there; make it with", "is made from")
    assert {name: reason for name, reason in missing.items() if not any(text in reason for text in expected)} == {}
