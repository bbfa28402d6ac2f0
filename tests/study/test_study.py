"""A study from its command: order, resuming, runs that fail, SIGTERM, and what the tables and the page say of it."""

import csv
import json
import os
import re
import signal
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ncl_jax import main, train, workdir
from ncl_jax.errors import UserError
from ncl_jax.study import figures, page, plan, runs, summary

SMOKE = str(Path(__file__).parents[2] / "configs" / "study" / "smoke.py")
ALL = [("baseline", 0), ("patch", 0), ("alpha3", 0), ("baseline", 1), ("patch", 1), ("alpha3", 1)]


def document(study):
    return json.loads((study.folder / "summary.json").read_text())


def cell(study, variant, measure):
    return next(c for c in document(study)["table"] if (c["variant"], c["measure"]) == (variant, measure))


def test_runs_go_seed_by_seed_and_finished_ones_stand(studied):
    assert studied("--only=baseline,patch") == (0, [run for run in ALL if run[0] != "alpha3"])
    assert studied() == (0, [run for run in ALL if run[0] == "alpha3"])
    assert studied() == (0, [])
    assert studied("--config.evaluation.knn_k=21") == (0, ALL)  # measured in another way


def test_the_summary_by_hand(studied):
    studied()
    found = cell(studied, "patch", "linear_top1")
    assert found["values"] == {"0": 0.55, "1": 0.67}
    assert found["mean"] == pytest.approx(0.61)
    assert found["std"] == pytest.approx(0.12 / 2**0.5)  # of two values
    half = 12.706204736174698 * 0.02 / 2**0.5 / 2**0.5  # t of one degree; differences 0.05 and 0.07
    assert found["difference"]["mean"] == pytest.approx(0.06)
    assert found["difference"]["low"] == pytest.approx(0.06 - half)
    assert found["difference"]["high"] == pytest.approx(0.06 + half)
    assert cell(studied, "baseline", "linear_top1")["difference"] is None
    with (studied.folder / "summary.csv").open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if (r["variant"], r["measure"]) == ("patch", "linear_top1"))
    assert float(row["difference"]) == pytest.approx(0.06)
    with (studied.folder / "runs.csv").open(newline="") as file:
        rows = {(r["variant"], int(r["seed"])): r for r in csv.DictReader(file)}
    assert list(rows) == ALL
    assert float(rows["patch", 1]["linear_top1"]) == 0.67
    text = (studied.folder / "summary.md").read_text()
    assert "| patch, alpha 2 | 2 | 12.5 ± 0.0 | 61.0 ± 8.5 | 0.305 ± 0.042 |" in text
    assert "sketch: is not there" in text


def test_a_report_of_no_study_is_refused(studied, capsys):
    assert studied("--report")[0] == 1
    assert "holds no study" in capsys.readouterr().err
    assert not studied.folder.exists()


def test_the_command_names_the_variants(studied):
    studied("--only=baseline,patch")
    assert document(studied)["command"].endswith("--only=baseline,patch")


def test_a_missing_set_is_told_once(studied, capsys):
    studied()
    assert capsys.readouterr().out.count("left out: sketch: is not there\n") == 1


def test_a_run_that_fails_is_shown_and_the_others_go_on(studied, capsys):
    studied.faults["patch", 0] = UserError("the loss is nan at step 3")
    studied.faults["alpha3", 1] = MemoryError("no room")
    assert studied() == (1, ALL)
    assert "2 of 6 runs have no results; the first: patch, seed 0: failed: the loss is nan" in capsys.readouterr().err
    statuses = {(r["variant"], r["seed"]): r["status"] for r in document(studied)["runs"]}
    assert statuses == {run: "failed" if run in (("patch", 0), ("alpha3", 1)) else "finished" for run in ALL}
    text = (studied.folder / "summary.md").read_text()
    assert "| patch, alpha 2 | 1 of 2, 1 failed | 12.5 | 67.0 |" in text
    assert "- alpha3, seed 1: failed: MemoryError: no room" in text
    assert "MemoryError" in (studied.folder / "alpha3" / "seed1" / "error.txt").read_text()
    assert cell(studied, "patch", "linear_top1")["difference"]["mean"] == pytest.approx(0.07)  # of the seed both have
    studied.faults.clear()
    assert studied() == (0, [("patch", 0), ("alpha3", 1)])  # tried again


@pytest.mark.parametrize("fault", ["stopped in training", "SIGTERM"])
def test_sigterm_ends_the_study_and_the_same_command_goes_on(studied, fault, capsys):
    before = signal.getsignal(signal.SIGTERM)
    studied.faults["alpha3", 0] = fault
    assert studied() == (143, ALL[:3])
    assert "the same command goes on from there" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    states = [run["status"] for run in document(studied)["runs"]]
    assert states == ["finished", "finished", "stopped", *["not begun"] * 3]
    studied.faults.clear()
    assert studied() == (0, ALL[2:])


def test_processes_share_a_study(studied, capsys):
    folder = studied.folder / "patch" / "seed0"
    folder.mkdir(parents=True)
    with workdir.hold(folder, runs.LOCK):
        assert studied() == (0, [run for run in ALL if run != ("patch", 0)])
    assert "run 2 of 6: patch, seed 0: another process is at work on it" in capsys.readouterr().out
    assert studied() == (0, [("patch", 0)])


def test_what_fails_in_another_process_is_not_tried_again_by_this_one(studied, monkeypatch, capsys):
    studied.faults["patch", 0] = UserError("the loss is nan at step 3")
    assert studied("--only=patch")[0] == 1  # of before: tried again
    record, pretrain = studied.folder / "patch" / "seed1" / "run.json", train.pretrain

    def meanwhile(config, folder):
        later = time.time() + 1  # the clock of files is a coarse one
        workdir.write_json(record, json.loads(record.read_text()) | {"status": "failed", "error": "there"})
        os.utime(record, (later, later))
        return pretrain(config, folder)

    monkeypatch.setattr(train, "pretrain", meanwhile)
    assert studied("--only=patch") == (1, [("patch", 0)])
    assert "run 2 of 2: patch, seed 1: has just failed in another process" in capsys.readouterr().out


def test_a_folder_of_another_study_is_refused_before_any_run(studied, capsys):
    studied()
    assert studied("--config.optim.learning_rate=0.5") == (1, [])
    assert "belongs to a run of another config (optim.learning_rate: " in capsys.readouterr().err
    assert studied("--only=pach") == (1, [])
    assert "--only=pach: is no variant; one of baseline, patch, alpha3" in capsys.readouterr().err
    assert studied("--config.negatives.patch.alpha=3") == (1, [])
    assert "variants patch and alpha3: have the same settings" in capsys.readouterr().err


def test_checkpoints_are_kept_or_deleted_as_asked(studied, capsys):
    studied("--only=baseline")
    assert (studied.folder / "baseline" / "seed0" / "checkpoints").is_dir()
    studied("--only=patch", "--config.keep_checkpoints=False")
    assert not (studied.folder / "patch" / "seed0" / "checkpoints").exists()
    assert studied("--only=patch", "--config.evaluation.knn_k=21") == (1, [])
    assert "its checkpoints were deleted, so it cannot be measured anew" in capsys.readouterr().err


def test_report_runs_nothing_and_export_keeps_the_tables(studied, tmp_path):
    studied()
    (studied.folder / "summary.md").unlink()
    assert studied("--report", f"--export={tmp_path / 'kept'}") == (0, [])
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"summary.json", "summary.csv", "summary.md", "runs.csv", "overview.png"}


@pytest.fixture
def kept(studied, tmp_path):
    """A folder that keeps both runs of the baseline, whose own workdir is gone."""
    assert studied("--only=baseline", "--config.data.name=folder:/first", f"--export={tmp_path / 'kept'}")[0] == 0
    studied.folder.rename(tmp_path / "lost")
    return tmp_path / "kept"


FIRST = "--config.data.name=folder:/first"


def test_a_kept_study_goes_on_in_another_folder(studied, kept, capsys):
    before = json.loads((kept / "summary.json").read_text())
    status, begun = studied("--config.data.name=folder:/second", f"--import={kept}", f"--export={kept}")
    assert (status, begun) == (0, [run for run in ALL if run[0] != "baseline"])
    assert f"took over 2 runs that are kept in {kept}" in capsys.readouterr().out
    after = json.loads((kept / "summary.json").read_text())
    assert after == document(studied)

    def baseline(found):
        table = [c for c in found["table"] if c["variant"] == "baseline" and c["values"]]
        return [run for run in found["runs"] if run["variant"] == "baseline"], table

    assert baseline(before) == baseline(after)


def test_what_is_kept_is_taken_over_as_it_is_or_not_at_all(studied, kept, tmp_path, capsys):
    def refused(*arguments):
        assert studied(*arguments) == (1, [])
        assert not studied.folder.exists()
        return capsys.readouterr().err

    said = refused(FIRST, "--config.optim.learning_rate=7.5", f"--import={kept}")
    assert re.search(r"variant baseline was run with other settings \(optim.learning_rate: \S+ -> 7.5\)", said)
    assert "summary.json: no such file" in refused(f"--import={tmp_path / 'nothing'}")
    assert "Not a directory" in refused(f"--import={kept / 'summary.json'}")
    assert "--only=pach: is no variant" in refused(FIRST, "--only=pach", f"--import={kept}")
    (kept / "summary.json").write_text("{}")
    assert "is no summary of a study" in refused(f"--import={kept}")


def test_what_is_kept_is_not_lost(studied, kept, tmp_path, capsys):
    stands = (kept / "summary.json").read_text()

    def refused(*arguments):
        assert studied(f"--export={kept}", *arguments)[0] == 1
        assert (kept / "summary.json").read_text() == stands
        return capsys.readouterr().err

    first = "would lose 2 finished runs that are kept there (first: variant baseline, seed 0); "
    assert f"{first}add --import={kept}" in refused(FIRST, "--only=patch")
    assert f"{first}let the study have these variants and seeds too" in refused(FIRST, "--config.seeds=(3,)")
    said = refused(FIRST, "--config.epochs=9")
    assert re.search(r"baseline is kept there with other settings \(epochs: \d+ -> 9\)", said)
    studied.faults["baseline", 1] = ValueError("out of memory")  # here fails what was finished there
    assert "would lose 1 finished runs" in refused(FIRST, "--only=baseline")
    assert studied(FIRST, "--only=baseline", f"--import={kept}", f"--export={kept}") == (0, [])
    (tmp_path / "file").write_text("")
    assert studied(FIRST, f"--export={tmp_path / 'file'}") == (1, [])
    assert "cannot be written: File exists" in capsys.readouterr().err


def test_runs_of_other_settings_are_in_no_table(studied, capsys):
    assert studied("--only=baseline")[0] == 0
    assert studied("--only=patch", "--config.epochs=9")[0] == 1
    assert re.search(
        r"2 of 6 runs have no results; the first: baseline, seed 0: other settings: epochs: \d+ -> 9",
        capsys.readouterr().err,
    )
    assert cell(studied, "baseline", "linear_top1")["values"] == {}
    assert cell(studied, "patch", "linear_top1")["difference"] is None
    record = studied.folder / "patch" / "seed0" / "run.json"
    record.write_text(record.read_text().replace('"epochs"', '"gone_key"'))  # of another version
    assert studied("--config.epochs=9", "--report")[0] == 1
    assert "- patch, seed 0: other settings: config.gone_key: unknown key" in capsys.readouterr().out


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe")
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_needs_nothing_else(studied):
    studied()
    text = page.render(document(studied), studied.folder)
    found = Page(text)
    assert found.open == []
    assert len(found.sources) >= 6
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not re.search(r"https?://|url\(|@import", text)
    words = " ".join(found.text)
    for title in ("Every measure", "Along alpha", "Shape bias", "Classes that gain and lose", "61.0 ± 8.5"):
        assert title in words


def test_in_and_out_of_domain_is_of_one_probe(studied):
    """A set with a probe of its own is in the tables, and not in this figure."""
    studied("--only=patch")
    found = document(studied)
    found["measures"].append({"key": "pets/dogs/top1", "title": "pets/dogs", "unit": "%", "group": "results"})
    found["table"] += [c | {"measure": "pets/dogs/top1"} for c in found["table"] if c["measure"] == "linear_top1"]
    for kind, drawn in (("transfer", False), ("domain", True)):
        for run in found["runs"]:
            if run["results"]:
                run["results"]["sets"]["pets/dogs"] = {"kind": kind, "top1": 0.5}
        assert (figures.out_of_domain(found) is not None) == drawn


def test_a_set_whose_name_holds_a_stroke_is_in_its_own_table():
    sets = {"a": {"kind": "domain"}, "a/b": {"kind": "similarity"}}
    found = [{"results": {"sets": sets}}, {"results": None}]
    assert [summary._group(key, found) for key in ("a/top1", "a/b/positive.mean", "linear_top1", "training/loss")] == [
        "results", "analysis", "results", "training"
    ]  # fmt: skip


def test_the_whole_of_it_once(smoke_data, tmp_path, monkeypatch):
    """A real run of seconds, its analyses and figures; then nothing is left to do."""
    folder = tmp_path / "study"
    arguments = ["study", f"--config={SMOKE}", f"--workdir={folder}", f"--config.data.data_dir={smoke_data}"]
    arguments += ["--config.seeds=(1,)", "--only=patch", "--config.epochs=1"]
    assert main.main(arguments) == 0
    found = json.loads((folder / "summary.json").read_text())
    assert [run["status"] for run in found["runs"]] == ["not begun", "finished", "not begun"]
    assert found["seconds"] > 0
    keys = {m["key"]: m["group"] for m in found["measures"]}
    wanted = {"linear_top1": "results", "cue_conflict/shape_bias": "results", "corruptions/mean": "results"}
    wanted |= {"similarity/patch.mean": "analysis", "feature_statistics/alignment": "analysis"}
    wanted |= {"training/similarity_ns": "training"}
    assert wanted.items() <= keys.items()
    for name in ("similarity", "neighbours", "feature_map", "shape_bias", "negatives"):
        assert (folder / "patch" / "seed1" / f"{name}.png").stat().st_size > 1000
    assert len(found["runs"][1]["results"]["sets"]["classes"]["per_class"]) == 10
    monkeypatch.setattr(train, "pretrain", lambda *_: pytest.fail("ran a finished run again"))
    assert main.main(arguments) == 0
    assert runs.is_finished(folder / "patch" / "seed1", plan.load(SMOKE, {"epochs": 1}).config("patch", 1))
    assert summary.read(folder / "summary.json") == json.loads((folder / "summary.json").read_text())
