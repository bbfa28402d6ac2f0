"""A study's file: every shipped one is good, every mistake is one line, and variants do not touch each other."""

import textwrap
from pathlib import Path

import pytest

from ncl_jax import config as config_lib
from ncl_jax.errors import UserError
from ncl_jax.study import plan, summary

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs" / "study").glob("*.py"))


def variants_of(path):
    namespace = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return list(namespace.get("VARIANTS", ()))


@pytest.mark.parametrize(
    "path",
    [f"{p}{end}" for p in SHIPPED for end in ("", *(f":{v}" for v in variants_of(p)))],
    ids=lambda p: Path(p).name,
)
def test_every_shipped_study_is_good(path, monkeypatch, tmp_path):
    """From any folder; all its variants differ, each against what it is compared with."""
    monkeypatch.chdir(tmp_path)
    found = plan.load(path)
    configs = [config_lib.to_dict(config) for config in found.configs.values()]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
    assert found.baseline in found.configs
    summary.published(found)


def write(tmp_path, **changes):
    study = {
        "base": "configs/smoke.py",
        "variants": {"baseline": {"overrides": {"negatives": {}}}, "patch": {}},
        "seeds": (3, 5),
        **changes,
    }
    file = tmp_path / "configs" / "study" / "mine.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "configs" / "smoke.py").write_text((ROOT / "configs" / "smoke.py").read_text())
    file.write_text(f"def get_config(variant=None):\n    return {study!r}\n")
    return str(file)


def test_runs_go_seed_by_seed(tmp_path):
    found = plan.load(write(tmp_path))
    assert found.runs() == [("baseline", 3), ("patch", 3), ("baseline", 5), ("patch", 5)]
    assert found.runs(("patch",)) == [("patch", 3), ("patch", 5)]
    assert found.config("patch", 5).seed == 5
    assert found.baseline == "baseline"


def test_the_command_line_sets_the_study_or_all_runs(tmp_path):
    found = plan.load(write(tmp_path), {"seeds": "(7,)", "epochs": "9", "negatives.patch.num": "2"})
    assert found.study.seeds == (7,)
    assert {config.epochs for config in found.configs.values()} == {9}
    assert found.changed == ("epochs", "negatives.patch.num")


def test_what_the_command_line_sets_of_negatives_is_for_the_variants_that_have_them(tmp_path):
    """Above all not for the baseline, however it says that it has none."""
    off = {"overrides": {"negatives.patch.alpha": 0}}
    file = write(tmp_path, variants={"baseline": {"overrides": {"negatives": {}}}, "off": off, "patch": {}})
    found = plan.load(file, {"negatives.patch.alpha": "3"}).configs
    assert {name: [kind.alpha for kind in config.negatives.values()] for name, config in found.items()} == {
        "baseline": [],
        "off": [],
        "patch": [3.0],
    }
    with pytest.raises(UserError, match=r"config\.negatives\.quilt\.num: no variant has .* kind; one of patch"):
        plan.load(file, {"negatives.quilt.num": "2"})


def test_variants_that_have_become_one_are_not_run_twice(tmp_path):
    stronger = {"overrides": {"negatives.patch.alpha": 3.0}}
    file = write(tmp_path, variants={"patch": {}, "alpha3": stronger})
    plan.load(file).check_different()
    found = plan.load(file, {"negatives.patch.alpha": "3"})
    found.check_different(("patch",))
    with pytest.raises(UserError, match="variants patch and alpha3: have the same settings"):
        found.check_different()


def test_the_variant_goes_over_the_study_and_the_command_line_over_both(tmp_path):
    lars = {"overrides": {"optim": {"name": "lars"}}}
    file = write(tmp_path, overrides={"optim.learning_rate": 0.1}, variants={"lars": lars, "sgd": {}})
    rates = [
        {name: config.optim.learning_rate for name, config in plan.load(file, set_).configs.items()}
        for set_ in ({}, {"optim.learning_rate": "0.7"})
    ]
    assert rates == [{"lars": 0.03, "sgd": 0.1}, {"lars": 0.7, "sgd": 0.7}]


def test_variants_that_share_a_section_do_not_change_each_other(tmp_path):
    """The file gives one dict to two variants; an override of one must not reach the other."""
    file = tmp_path / "shared.py"
    file.write_text(
        textwrap.dedent("""
        def get_config(variant=None):
            patch = {"negatives": {"patch": {"alpha": 2.0}}}
            return {"base": "%s", "variants": {
                "strong": {"overrides": patch | {"negatives.patch.alpha": 3.0}}, "patch": {"overrides": patch}}}
        """)
        % (ROOT / "configs" / "smoke.py")
    )
    found = plan.load(str(file))
    assert found.configs["strong"].negatives["patch"].alpha == 3.0
    assert found.configs["patch"].negatives["patch"].alpha == 2.0


PATCH = {"patch": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": ""}, "config.base: is missing"),
        ({"base": {"epochs": 2}}, "config.base: is no name of a file; the config file that the runs start from"),
        ({"base": "configs/smokee.py"}, "variant baseline: --config=configs/smokee.py: no such file"),
        ({"variants": {}}, "config.variants: is missing"),
        ({"variants": {"a/b": {}}}, "config.variants: 'a/b' names a folder"),
        ({"variants": {"a": {"override": {}}}}, "config.variants.a.override: unknown key; did you mean 'overrides'?"),
        ({"variants": {"a": {"config": ":byoll"}}}, "smoke.py:byoll: unknown variant"),
        (
            {"variants": {"a": {"overrides": {"epoch": 3}}}},
            "variant a: config.epoch: unknown key; did you mean 'epochs'?",
        ),
        ({"variants": PATCH | {"b": {"overrides": {"evaluation.knn_k": 3}}}}, "variant b: is measured in another way"),
        (
            {"variants": PATCH | {"b": {"overrides": {"data.train_split": "train[:64]"}}}},
            "variant b: is measured in another way than patch (evaluation.train_split: train[:128] -> train[:64])",
        ),
        ({"variants": {"a": {"against": "b"}}}, "config.variants.a.against: 'b' is no variant"),
        ({"seeds": (1, 1)}, "config.seeds = (1, 1): give different seeds"),
        ({"seeds": ()}, "config.seeds = (): give different seeds"),
        ({"seeds": (-1,)}, "config.seeds = -1: must be at least 0"),
        ({"baseline": "base"}, "config.baseline: 'base' is no variant; did you mean 'baseline'?"),
        ({"sweeps": {"alpha": {"patches": 3}}}, "config.sweeps.alpha: 'patches' is no variant; did you mean 'patch'?"),
        ({"overrides": {"seed": 7}}, "config.seed = 7: a study sets it; give config.seeds = (7,)"),
        ({"sweep": {}}, "config.sweep: unknown key; did you mean 'sweeps'?"),
        ({"evaluate": "configs/eval/none.py"}, "no such file"),
        ({"confidence": 1.5}, "config.confidence = 1.5: must be at most"),
    ],
)
def test_mistakes_are_one_line(changes, message, tmp_path):
    with pytest.raises(UserError) as caught:
        plan.load(write(tmp_path, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_published_rows_must_be_there(tmp_path):
    table = {"table": "published_imagenet100.csv", "measures": {"linear_top1": "imagenet100"}}
    rows = {"patch": "moco_v2+patch paper queue 16384 alpha 2"}
    found = summary.published(plan.load(write(tmp_path, published={**table, "rows": rows})))
    assert found["linear_top1"]["patch"]["mean"] == pytest.approx(0.7935)
    assert found["linear_top1"]["patch"]["std"] == pytest.approx(0.0012)
    with pytest.raises(UserError, match=r"is no row of published_imagenet100\.csv"):
        summary.published(plan.load(write(tmp_path, published={**table, "rows": {"patch": "moco"}})))
    with pytest.raises(UserError, match="no such table in ncl_jax/study"):
        summary.published(plan.load(write(tmp_path, published={**table, "rows": rows, "table": "other.csv"})))
    file = write(tmp_path, published={**table, "rows": rows})
    places = {"data.name": "folder:x", "data.cache": "device"}
    places |= {f"evaluation.sets.cue_conflict.{key}": value for key, value in (("dataset", "folder:x"), ("split", "a"))}
    assert summary.published(plan.load(file, places)) == found
    assert summary.published(plan.load(file, {"seeds": (7,)})) == found
    changes = {"epochs": "2", "evaluation.resize": "48", "overrides": {"epochs": 3}}
    for key, value in (changes | {"evaluate": "configs/eval/imagenet100.py:fast"}).items():
        assert summary.published(plan.load(file, {key: value})) == {}, key  # no longer the published setting
