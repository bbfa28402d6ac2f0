"""Two processes of one run, as a user starts them: together to the end, through SIGTERM, and when one dies."""

import json
import signal
import subprocess
import sys
import time

import pytest
import simulated
from faults import runs

# Counts that divide by nothing: nothing may be dropped or counted twice.
FLAGS = ("--config.data.test_split=test[:101]", "--config.evaluation.sets.cue_conflict.split=cue_conflict[:67]")
FLAGS += ("--config.data.train_split=train[:257]", "--config.evaluation.every_epochs=0", "--config.log_every=1")


@pytest.fixture(scope="module")
def data(smoke_data):
    return f"--config.data.data_dir={smoke_data}"


def pair(folder, *flags, command="pretrain"):
    address = f"--coordinator=localhost:{simulated.free_port()}"
    return [
        runs.start(folder, *flags, address, "--process_count=2", f"--process_index={index}", command=command,
                   log=f"{folder}.{index}.log")
        for index in range(2)
    ]  # fmt: skip


def end(folder, processes, timeout):
    """(exit status, output) of each."""
    try:
        statuses = [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(status, (folder.parent / f"{folder.name}.{n}.log").read_text()) for n, status in enumerate(statuses)]


def after_steps(folder, processes, count):
    deadline = time.monotonic() + 300
    while len(runs.rows(folder)) < count:
        assert all(process.poll() is None for process in processes), "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stopped_by_sigterm(folder, flags):
    """SIGTERM to one of them: both save the same step, and say so once."""
    processes = pair(folder, *flags)
    after_steps(folder, processes, 2)
    processes[1].send_signal(signal.SIGTERM)
    (status, said), (other_status, other_said) = end(folder, processes, 120)
    assert (status, other_status) == (143, 143), said + other_said
    assert "SIGTERM: saved step" in said
    assert "SIGTERM: saved" not in other_said


def test_sigterm_death_and_evaluation(data, tmp_path):
    folder = tmp_path / "run"
    flags = (*FLAGS, data, "--config.epochs=3")

    stopped_by_sigterm(folder, flags)
    first = len(runs.learnt(folder))
    assert 2 <= first < 24

    # One dies: the other stops within a minute.
    processes = pair(folder, *flags)
    after_steps(folder, processes, first + 2)
    processes[1].kill()
    processes[1].wait()
    died = time.monotonic()
    status = processes[0].wait(60)
    said = (tmp_path / "run.0.log").read_text()
    print(f"stopped {time.monotonic() - died:.0f} s after the other's death, with status {status}")
    assert status not in (0, -9)
    assert "lost another process of this run" in said or "another task died" in said, said

    # Started again they go on, and evaluate as one process does.
    (status, said), (other_status, other_said) = end(folder, pair(folder, *flags), 400)
    assert (status, other_status) == (0, 0), said + other_said
    assert "going on from step" in said
    assert "shape bias" in said
    assert "step" not in other_said, "only the first process reports"
    assert [step for step, _ in runs.learnt(folder)] == list(range(1, 25))
    two = json.loads((folder / "results.json").read_text())
    assert (two["train_images"], two["test_images"]) == (257, 101)
    (folder / "results.json").unlink()
    status, said = runs.finish(folder, command="evaluate")
    assert status == 0, said
    one = json.loads((folder / "results.json").read_text())
    assert two["knn_top1"] == pytest.approx(one["knn_top1"], abs=1.5 / 101)  # a tie may fall otherwise
    assert two["linear_top1"] == pytest.approx(one["linear_top1"], abs=1.5 / 101)
    assert one.keys() == two.keys()


def test_sigterm_reaches_steps_that_are_taken_many_at_a_time(data, tmp_path):
    folder = tmp_path / "run"
    flags = (*FLAGS, data, "--config.epochs=200", "--config.data.cache=device", "--config.log_every=3")
    stopped_by_sigterm(folder, flags)


_CLAIM = """
import sys

import ncl_jax
from ncl_jax import parallel, workdir
from ncl_jax.errors import UserError

folder, address, index = sys.argv[1:]
ncl_jax.register()
parallel.initialize(address, 2, int(index))
workdir.SEEN_AFTER = 1.0
try:
    with workdir.claim(folder, ncl_jax.load_config("configs/smoke.py", {})):
        print("in")
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(("folders", "said"), [(("a", "a"), "in"), (("a", "b"), "does not see what process 0 writes")])
def test_a_workdir_is_one_that_all_see(folders, said, tmp_path):
    address = f"localhost:{simulated.free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIM, tmp_path / folder, address, str(index)],
            env=simulated.environment(1) | {"PYTHONPATH": str(runs.ROOT)},
            cwd=runs.ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index, folder in enumerate(folders)
    ]
    assert [said in process.communicate(timeout=120)[0] for process in processes] == [True, True]


def test_one_that_is_refused_takes_the_other_along(data, tmp_path):
    """Process 0 finds a workdir of another config and stops with a line; process 1 must not wait for ever."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "8").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"batch": 64, "method": {"queue_size": 64}}))
    processes = pair(folder, *FLAGS, data)
    (status, said), (other_status, other_said) = end(folder, processes, 150)
    assert status == 1
    assert "belongs to a run of another config" in said.strip().splitlines()[-1]
    assert other_status != 0, other_said
