"""The frame: names, tables, JSON, one line for every mistake."""

import errno
import importlib
import json
import mmap
import re
import subprocess
import sys
import threading
import time

import jax
import pytest

from ncl_jax import benchmark, config, methods, negatives, workdir  # noqa: F401
from ncl_jax.benchmark import machine, random_batch
from ncl_jax.benchmark.result import Options, Result, markdown
from ncl_jax.errors import UserError
from ncl_jax.main import main

TINY = {
    "batch": 8,
    "data": {"name": "none", "image_size": 16},
    "model": {"name": "resnet10", "width": 0.125, "stem": "small"},
    "method": {"name": "moco", "queue_size": 16, "hidden_dim": 16, "embedding_dim": 8},
    "negatives": {"patch": {"num": 2}},
    "evaluation": {"resize": 16},
}


@pytest.mark.parametrize("name", benchmark.REGISTRY)
def test_every_entry_can_be_run(name):
    module, about = benchmark.REGISTRY[name]
    assert about
    assert callable(importlib.import_module(f"ncl_jax.benchmark.{module}").run)


def test_peers_are_named_for_benchmarks_that_exist():
    assert {name for known in benchmark.PEERS.values() for name in known} <= set(benchmark.REGISTRY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["negtives"], ["'negtives'", "negatives", "all"]),
        (["import", "--seconds=-1"], ["--seconds=-1", "more than 0"]),
        (["import", "--against=tensorflow"], ["--against=tensorflow", "unknown"]),
        (["import", "--config.batch=3"], ["--config.batch", "--config="]),
        (["import", "--output=/nowhere/at/all.json"], ["/nowhere/at"]),
        (["import", "--output=/"], ["--output=/", "is a folder"]),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert main(["benchmark", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words)


def test_run_prints_a_table_and_writes_everything(monkeypatch, tmp_path, capsys):
    class Fake:
        @staticmethod
        def run(options):
            monkeypatch.setattr(benchmark.machine, "load_average", lambda: [9.0])  # by what is measured
            return Result({"": [{"thing": "a", "ms": 1.5}]}, ["a remark"], {"a": (1e-3, 2e-3)})

    monkeypatch.setattr(benchmark, "REGISTRY", {"fake": ("fake", "about it")})
    monkeypatch.setattr(benchmark.importlib, "import_module", lambda name: Fake)
    monkeypatch.setattr(benchmark.machine, "load_average", lambda: [0.5])
    output = tmp_path / "result.json"
    benchmark.run("fake", Options(config.parse(TINY), seconds=0.5), str(output))
    written = json.loads(output.read_text())
    assert written["benchmarks"]["fake"] == {
        "tables": {"": [{"thing": "a", "ms": 1.5}]},
        "notes": ["a remark"],
        "samples": {"a": [1e-3, 2e-3]},
    }
    assert config.parse(written["config"]) == config.parse(TINY)
    assert written["seconds"] == 0.5
    assert written["machine"]["load"] == [0.5]
    assert {"date", "device", "cpu", "cores", "versions"} <= set(written["machine"])
    assert "| a | 1.5 |" in capsys.readouterr().out


def test_all_goes_on_after_one_that_cannot_run(monkeypatch, capsys):
    class Fake:
        def __init__(self, name):
            self.name = name

        def run(self, options):
            options.need_config(self.name) if self.name.endswith("bad") else None
            return Result({"": [{"x": 1}]})

    monkeypatch.setattr(benchmark, "REGISTRY", {name: (name, "") for name in ("bad", "good")})
    monkeypatch.setattr(benchmark.importlib, "import_module", Fake)
    assert list(benchmark.run("all", Options())) == ["good"]
    assert "left out bad" in capsys.readouterr().out
    with pytest.raises(UserError, match="--config="):
        benchmark.run("bad", Options())


def test_what_was_measured_is_written_at_once(monkeypatch, tmp_path, capsys):
    class Fake:
        def __init__(self, name):
            self.name = name

        def run(self, options):
            if self.name.endswith("memory"):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore")
            if self.name.endswith("interrupted"):
                raise KeyboardInterrupt
            return Result({"": [{"x": 1}]})

    monkeypatch.setattr(benchmark, "REGISTRY", {name: (name, "") for name in ("good", "memory", "interrupted")})
    monkeypatch.setattr(benchmark.importlib, "import_module", Fake)
    output = tmp_path / "all.json"
    with pytest.raises(KeyboardInterrupt):
        benchmark.run("all", Options(), str(output))
    assert json.loads(output.read_text())["benchmarks"].keys() == {"good"}
    assert "left out memory: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\n" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    def closed(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(workdir.tempfile, "TemporaryFile", closed)
    monkeypatch.setattr(benchmark.importlib, "import_module", lambda name: pytest.fail(name))
    with pytest.raises(UserError, match=r"--output=.*one.json: cannot be written: Permission denied"):
        benchmark.run("knn", Options(), str(tmp_path / "one.json"))


def test_markdown_has_a_cell_for_every_column():
    result = Result({"first": [{"a": 1234.5, "b": None}, {"a": 0.01234, "c": 2}, {"a": 999.7}], "second": []}, ["n"])
    lines = markdown("name", "about", result).splitlines()
    assert lines[0] == "### name: about"
    table = [line for line in lines if line.startswith("|")]
    assert table == ["| a | b | c |", "| --- | --- | --- |", "| 1,234 |  |  |", "| 0.0123 |  | 2 |", "| 1,000 |  |  |"]
    assert lines[-1] == "- n"
    assert "second" not in lines


def test_machine_says_where():
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["cpu"]
    assert described["versions"]["jax"]
    assert described["versions"]["jax"] in machine.sentence(described)


def test_random_batch_has_what_the_stream_would_give():
    settings = config.parse(TINY)
    fields = random_batch.wire(settings)
    assert fields["query"].shape == fields["key"].shape == (8, 16, 16, 3)
    assert sorted(fields["key_order"]) == list(range(8))
    assert ((fields["box"] >= 0) & (fields["box"] <= 1)).all()
    assert (fields["box"][:, 2:] > fields["box"][:, :2]).all()


@pytest.mark.parametrize("name", ["negatives", "augment"])
def test_parts_of_the_step_give_a_row_for_each_of_the_configs(name):
    module = importlib.import_module(f"ncl_jax.benchmark.{name}")
    result = module.run(Options(config.parse(TINY), seconds=0.01))
    (row,) = result.tables[""]
    assert row["side (px)"] == 16
    assert row["images"] == (16 if name == "negatives" else 8)
    assert all(len(samples) >= 5 for samples in result.samples.values())


def test_negatives_without_a_config_measures_every_kind_or_says_why_not(monkeypatch):
    from ncl_jax.benchmark import negatives as measured

    monkeypatch.setattr(measured.random_batch, "SIDES", {32: 2})
    monkeypatch.setattr(measured.timing, "measure_one", lambda call, seconds: measured.timing.Timing(1.0, (1.0,)))
    result = measured.run(Options())
    told = {row["negative"] for row in result.tables[""]} | {note.split()[0] for note in result.notes}
    assert told == set(negatives.REGISTRY)


def test_negatives_of_a_config_that_has_none():
    from ncl_jax.benchmark import negatives as measured

    with pytest.raises(UserError, match=r"config\.negatives is empty"):
        measured.run(Options(config.parse(TINY | {"negatives": {}})))


def test_import_is_measured_without_tensorflow(monkeypatch):
    from ncl_jax.benchmark import import_time

    monkeypatch.setattr(import_time, "MODULES", ("ncl_jax",))
    monkeypatch.setattr(import_time, "has_tensorflow", lambda: False)
    monkeypatch.setattr(import_time.timing, "LEAST", 1)
    rows = import_time.run(Options(seconds=0.01)).tables[""]
    assert [row["import"] for row in rows] == ["(nothing)", "ncl_jax"]
    assert rows[1]["TensorFlow"] == "not imported"


def test_all_but_the_input_run_where_tensorflow_is_not_installed():
    modules = [f"ncl_jax.benchmark.{module}" for module, _ in benchmark.REGISTRY.values() if module != "input"]
    code = f"import sys; sys.modules['tensorflow'] = None; import {', '.join(modules)}, ncl_jax.data.device_cache"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_soak_watches_the_process(tmp_path):
    """What grows is seen: handles and threads that a run leaves behind, memory that it keeps."""
    from ncl_jax.benchmark import soak

    path, kept, done = tmp_path / "metrics.jsonl", [], threading.Event()

    def work():
        for step in range(1, 41):
            memory = mmap.mmap(-1, 4 * 2**20)  # what the heap gives may be memory that the process held already
            memory.write(b"x" * len(memory))
            threading.Thread(target=done.wait, daemon=True).start()
            kept.append((path.open("a"), memory))
            kept[-1][0].write(json.dumps({"step": step}) + "\n")
            kept[-1][0].flush()
            time.sleep(0.02)

    seen = soak.watch(work, tmp_path, every=0.01)
    done.set()
    for file, memory in kept:
        file.close()
        memory.close()
    steps = [row["step"] for row in seen]
    assert steps == sorted(steps)
    assert len(set(steps)) > 10
    assert seen[-1]["file handles"] - seen[0]["file handles"] >= 0.9 * (steps[-1] - steps[0])
    assert seen[-1]["memory (MB)"] - seen[0]["memory (MB)"] > 0.7 * 4.19 * (steps[-1] - steps[0])
    threads = seen[-1]["threads"] - seen[0]["threads"]
    assert (
        0.5 * (steps[-1] - steps[0]) <= threads <= steps[-1] - steps[0] + 2
    )  # some of earlier tests may end meanwhile
    growth = float(re.search(r"memory \+([\d.]+) MB per 1,000 steps", soak.sentence(seen))[1])
    assert 0.7 * 4190 < growth < 1.4 * 4190
