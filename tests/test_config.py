"""Configs: every shipped file is good, every mistake is one line that names the key and the fix."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from ncl_jax import config, methods, negatives, workdir
from ncl_jax.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"
SHIPPED = sorted(str(path) for folder in (CONFIGS, CONFIGS / "eval") for path in folder.glob("*.py"))


def variants(path):
    source = importlib.util.spec_from_file_location("c", path)
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return [path, *(f"{path}:{name}" for name in getattr(module, "VARIANTS", ()))]


@pytest.mark.parametrize("path", [v for p in SHIPPED for v in variants(p)], ids=lambda p: Path(p).name)
def test_every_shipped_config_is_good_and_survives_json(path):
    loaded = config.load(path)
    assert dataclasses.is_dataclass(loaded)
    again = config.parse(json.loads(json.dumps(config.to_dict(loaded))))
    assert again == loaded


def test_the_paper_is_the_default():
    paper = config.load(str(CONFIGS / "imagenet100_moco_patch.py"))
    assert isinstance(paper.method, methods.moco.Settings)
    assert (paper.learning_rate, paper.batch, paper.epochs) == (0.03, 128, 200)
    assert (paper.method.temperature, paper.method.momentum, paper.method.queue_size) == (0.2, 0.999, 16384)
    assert paper.negatives == {"patch": negatives.patch.Settings(alpha=2.0, num=1)}
    ifm = config.load(str(CONFIGS / "imagenet100_moco_patch.py:ifm"))
    assert (ifm.learning_rate, ifm.batch, ifm.method.momentum, ifm.method.queue_size) == (0.8, 512, 0.99, 65536)


def test_test_images_are_resized_in_the_papers_proportion_unless_said_otherwise():
    def resize(**changes):
        return config.load(str(CONFIGS / "imagenet100_moco_patch.py"), changes).evaluation.resize

    assert (resize(), resize(**{"data.image_size": 96}), resize(**{"evaluation.resize": 224})) == (256, 110, 224)


def test_overrides_leave_the_callers_sections_as_they_are():
    section = {"name": "sgd"}
    loaded = config.load(str(CONFIGS / "smoke.py"), {"optim": section, "optim.weight_decay": 0.5})
    assert loaded.optim.weight_decay == 0.5
    assert section == {"name": "sgd"}


def test_overrides_are_typed_and_reach_absent_keys():
    loaded = config.load(
        SHIPPED[0],
        {"optim.learning_rate": "1", "negatives.patch.patch_size": "(4, 8)", "seed": "3", "optim.per_256": "true"},
    )
    assert loaded.optim.learning_rate == 1.0
    assert isinstance(loaded.optim.learning_rate, float)
    assert loaded.negatives["patch"].patch_size == (4, 8)
    assert (loaded.seed, loaded.optim.per_256) == (3, True)
    assert config.load(SHIPPED[0], {"negatives.patch": "None"}).negatives == {}
    assert list(config.load(SHIPPED[0], {"negatives": "('patch',)"}).negatives) == ["patch"]
    assert list(config.load(SHIPPED[0], {"negatives": "patch, texture"}).negatives) == ["patch", "texture"]


def test_learning_rate_per_256_images():
    loaded = config.parse({"batch": 512, "optim": {"learning_rate": 0.1, "per_256": True}})
    assert loaded.learning_rate == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.width": "0.005"}, r"^config\.model\.width = 0\.005: leaves no channel of 64; use 0\.01 or more$"),
        ({"optim.learning_rat": "1"}, r"^config\.optim\.learning_rat: unknown key; did you mean 'learning_rate'\?$"),
        ({"method.queue": "1"}, r"config\.method\.queue: unknown key; did you mean 'queue_size'"),
        (
            {"method.name": "byol"},
            r"config\.method\.\w+: unknown key of byol, one of .*moco.*give --config.method=\"\{'name': 'byol'\}\"",
        ),
        ({"method.name": "moc"}, r"config\.method\.name = 'moc': unknown; did you mean 'moco'"),
        ({"negatives.pach.alpha": "1"}, r"config\.negatives\.pach: unknown kind; did you mean 'patch'"),
        ({"negatives.patch.alpha": "'a'"}, r"config\.negatives\.patch\.alpha = 'a': expected float"),
        ({"batch": "1.5"}, r"config\.batch = 1\.5: expected int"),
        ({"batch": "True"}, r"config\.batch = True: expected int"),
        ({"batch": "0"}, r"config\.batch = 0: must be at least 1"),
        ({"optim.learning_rate": "0"}, r"config\.optim\.learning_rate = 0\.0: must be above 0"),
        ({"optim.learning_rate": "1" + 400 * "0"}, r"config\.optim\.learning_rate = 10+: expected float"),
        ({"optim.weight_decay": "1e999"}, r"config\.optim\.weight_decay = inf: must be a finite number"),
        ({"method.temperature": "1e-300"}, r"config\.method\.temperature = 1e-300: must be at least 0\.001"),
        ({"optim.learning_rate": "nan"}, r"config\.optim\.learning_rate = 'nan': expected float"),
        ({"model.name": "resnet51"}, r"config\.model\.name = 'resnet51': did you mean 'resnet50'"),
        ({"model": "3"}, r"config\.model = 3: is a section"),
        ({"batch.size": "3"}, r"config\.batch\.size: batch is a value, not a section"),
        ({"augment.crop_scale": "(0.5, 0.2)"}, r"config\.augment\.crop_scale = .* the first value is above the second"),
        (
            {"augment.crop_scale": "(0.5, 0.6, 1.0)"},
            r"config\.augment\.crop_scale = .*expected a tuple like .0.5, 0.5.",
        ),
        (
            {"method.queue_size": "100", "method.symmetric": "False"},
            r"config\.method\.queue_size = 100: is no multiple of the 128 keys of a step",
        ),
        (
            {"method.symmetric": "True", "method.queue_size": "128"},
            r"queue_size = 128: is no multiple of the 256 keys .* both views",
        ),
        ({"model.bn_groups": "7"}, r"config\.model\.bn_groups = 7: does not divide config\.batch = 128"),
        ({"negatives.patch.patch_size": "(3, 40)"}, r"patch_size = \(3, 40\): a patch is larger than the image .*= 32"),
        ({"seed": 2**32}, r"config\.seed = 4294967296"),
        ({"data.cache_size": 64}, r"config\.data\.cache_size = 64: is of config\.data\.cache = 'device'"),
        ({"evaluation.resize": "16"}, r"config\.evaluation\.resize = 16: is below config\.data\.image_size = 32"),
        ({"optim.warmup_epochs": "99"}, r"config\.optim\.warmup_epochs = 99\.0: not below config\.epochs"),
        ({"evaluation.sets": {"x": {"kind": ["edges"]}}}, r"config\.evaluation\.sets\.x\.kind = \['edges'\]: unknown"),
        ({"evaluation.sets": {"training": {"kind": "edges"}}}, r"config\.evaluation\.sets: 'training' is to name rows"),
        ({"evaluation.sets": {3: {"kind": "edges"}}}, r"config\.evaluation\.sets: 3 is to name rows of results"),
        ({"alpha_warmup_epochs": "99"}, r"config\.alpha_warmup_epochs = 99\.0: is above config\.epochs"),
    ],
)
def test_a_mistake_is_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as error:
        config.load(str(CONFIGS / "demo.py"), overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import sys\n\ndef get_config(_):\n    sys.exit(3)", "get_config: SystemExit: 3"),
        ("raise SystemExit", "SystemExit"),
        ("def get_config(_):\n    return {1: 2}", r"config\.1: unknown key"),
        ("def get_config(_):\n    return {'negatives': {1: {}}}", r"config\.negatives\.1: unknown kind"),
    ],
)
def test_a_file_of_ones_own_that_goes_wrong_is_one_line(body, message, tmp_path):
    (tmp_path / "own.py").write_text(body)
    with pytest.raises(UserError, match=message):
        config.load(str(tmp_path / "own.py"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("configs/dem.py", r"no such file; did you mean configs/demo\.py"),
        ("configs/demo.py:big", r"unknown variant; known: baseline"),
        ("configs/smoke.py:big", r"unknown variant; known: byol, simclr, moco_v3$"),
    ],
)
def test_a_missing_file_or_variant_is_one_line(path, message, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    with pytest.raises(UserError, match=message):
        config.load(path)


def test_a_script_that_registers_nothing_is_told_how(monkeypatch):
    monkeypatch.setattr(config, "METHODS", {})
    with pytest.raises(UserError, match=r"config\.method\.name = 'moco': .* call ncl_jax\.register\(\) first"):
        config.load(str(CONFIGS / "demo.py"))


def test_a_broken_file_names_its_error(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(UserError, match=r"broken\.py: ZeroDivisionError"):
        config.load(str(path))
    path.write_text("x = 1")
    with pytest.raises(UserError, match="defines no get_config"):
        config.load(str(path))
    path.write_text("def get_config(): return {}")
    with pytest.raises(UserError, match=r"broken\.py: get_config: TypeError: get_config\(\) takes 0"):
        config.load(str(path))
    path.write_text("def get_config(variant=None): {}")
    with pytest.raises(UserError, match="get_config returns NoneType, want a dict"):
        config.load(str(path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is no Python file"):
        config.load(str(tmp_path / "config.json"))


def test_an_evaluation_by_another_file_is_that_files_alone(tmp_path, caplog):
    """Of whatever run; of its negatives those stay that fit, for `similarity`."""
    file = str(CONFIGS / "eval" / "cifar10.py")
    kinds = {"patch": {"patch_size": (16, 72)}, "quilt": {}}
    of_run = {"evaluation.train_split": "'labelled'", "data.data_dir": "'there'", "negatives": kinds}
    runs = [config.load(str(CONFIGS / "smoke.py")), config.load(str(CONFIGS / "imagenet100_moco_patch.py"), of_run)]
    caplog.set_level("INFO", "ncl_jax")
    read = []
    for run in runs:
        workdir.write_json(tmp_path / "config.json", config.to_dict(run))
        read.append(workdir.read_config(tmp_path, evaluate_as=file))
    assert read[0].evaluation == read[1].evaluation == config.load(file).evaluation
    assert [each.model for each in read] == [each.model for each in runs]
    assert (read[1].data.name, read[1].data.data_dir) == ("cifar10", "there")
    assert [list(each.negatives) for each in read] == [["patch"], ["quilt"]]
    assert "left out: the negatives patch: config.negatives.patch.patch_size = (16, 72)" in caplog.text
    assert workdir.read_config(tmp_path, {"evaluation.knn_k": 3}, evaluate_as=file).evaluation.knn_k == 3
    (tmp_path / "other.py").write_text("def get_config(variant): return {'model': {}}")
    with pytest.raises(UserError, match=r"other\.py: sets model, which the run has"):
        workdir.read_config(tmp_path, evaluate_as=str(tmp_path / "other.py"))


def test_difference_names_what_changed():
    old, new = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": 4}
    assert config.difference(old, new) == ["a.b: 1 -> 3", "d: (absent) -> 4"]
