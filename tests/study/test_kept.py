"""The results that are kept in `configs/study/results`: their own command goes on from them."""

import shlex
from pathlib import Path

import pytest

from ncl_jax.errors import UserError
from ncl_jax.study import kept, plan, summary

ROOT = Path(__file__).parents[2]
RESULTS = sorted(path.parent for path in (ROOT / "configs" / "study" / "results").glob("*/summary.json"))


@pytest.mark.parametrize("source", RESULTS, ids=lambda path: path.name)
def test_kept_results_are_of_the_studies_as_they_are(source, tmp_path):
    """Had a setting changed since, a run made now would not compare with them."""
    before = summary.read(source / "summary.json")
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in shlex.split(before["command"])[2:])
    overrides = {k.removeprefix("config."): v for k, v in flags.items() if k.startswith("config.")}
    study = plan.load(str(ROOT / flags["config"]), overrides)
    kept.take_over(study, tmp_path, source)
    after = summary.collect(study, tmp_path, before["command"])
    assert kept.finished(before) == kept.finished(after) != set()
    old, new = ({(run["variant"], run["seed"]): run for run in d["runs"] if run["results"]} for d in (before, after))
    assert new == old


def test_runs_on_other_images_are_not_taken_over(tmp_path):
    """Folders' names tell nothing from one machine to the other, but how many images lie there does."""
    for split, count in (("train", 20), ("test", 3)):
        for label in ("a", "b"):
            (tmp_path / "pictures" / split / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "pictures" / split / label / f"{number}.png").write_bytes(b"")
    config, source = str(ROOT / "configs/study/cifar10.py:cpu"), ROOT / "configs/study/results/cifar10_cpu"
    study = plan.load(config, {"data.name": f"folder:{tmp_path}/pictures"})
    with pytest.raises(UserError, match=r"its runs had 10000 images where folder:.*/pictures\[train\[:20%\]\] has 8"):
        kept.take_over(study, tmp_path / "runs", source)
    assert not (tmp_path / "runs").exists()


def test_folders_lie_elsewhere_on_another_machine():
    there = {"data": {"name": "folder:/a"}, "names": ["folder:/b", "folder:/c"], "seeds": [1, 2]}
    here = {"data": {"name": "folder:/x"}, "names": ["folder:/y", "folder:/z"], "seeds": [1, 3]}
    assert kept._moved(there, here) == here | {"seeds": [1, 2]}
    assert kept._moved(there, here | {"names": ["folder:/y"], "data": {"name": "cifar10"}}) == there
