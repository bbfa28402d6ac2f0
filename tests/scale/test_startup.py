"""Which processes join which others: what each cluster's environment and each flag leads to."""

import os
import subprocess
import sys

import jax
import pytest
import simulated

from ncl_jax import main, parallel
from ncl_jax.errors import UserError

CLUSTERS = ("SLURM_", "OMPI_", "TPU_", "JAX_COORDINATOR", "JOB_COMPLETION_INDEX", "KUBERNETES_")
SLURM = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}
ORTE = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


@pytest.fixture
def joined(monkeypatch):
    """Environment variables to be set by the test; returns the addresses that jax was called with."""

    for name in list(os.environ):
        if name.startswith(CLUSTERS):
            monkeypatch.delenv(name)
    calls = []

    def initialize(*address, heartbeat_timeout_seconds, shutdown_timeout_seconds):
        assert heartbeat_timeout_seconds < 60  # others stop within a minute of a death
        calls.append(address)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return calls


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        (SLURM | {"SLURM_NTASKS": "8"}, [()]),
        (SLURM | {"SLURM_NTASKS": "1"}, []),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}, []),  # in an sbatch script, without srun
        (SLURM | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, []),  # salloc's interactive step
        (MPI | ORTE, [()]),
        (MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, []),
        ({"TPU_WORKER_HOSTNAMES": "t-0,t-1"}, [()]),  # GKE
        ({"TPU_ML_PLATFORM": "JAX"}, [()]),  # a TPU VM of gcloud, a pod's or alone: jax asks the metadata server
        ({"JAX_COORDINATOR_ADDRESS": "h:1"}, [()]),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, []),  # any pod, a notebook's too
    ],
)
def test_environments(environment, expected, joined, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parallel.initialize()
    assert joined == expected


@pytest.mark.parametrize("installed", [True, False])
def test_an_indexed_job_of_kubernetes(installed, joined, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setattr(parallel.importlib.util, "find_spec", lambda name: installed or None)
    parallel.initialize()
    assert joined == ([()] if installed else [])


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "all"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, "0"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "JAX_LOCAL_DEVICE_IDS": "0"}, "0"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "JAX_CUDA_VISIBLE_DEVICES": "1,2"}, "1,2"),
        (MPI | ORTE | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "all"),
        (MPI | ORTE | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, "0"),
    ],
)
def test_the_only_task_of_a_host_takes_all_of_its_gpus(environment, devices, joined, monkeypatch):
    """Under SLURM and Open MPI jax counts on a task for each GPU, and took the first of them."""
    seen = {"jax_cuda_visible_devices": "all"}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *_, **__: seen.__setitem__("jax_cuda_visible_devices", "0")
    )
    for name, value in ({"SLURM_NTASKS": "8"} | environment).items():
        monkeypatch.setenv(name, value)
    parallel.initialize()
    assert seen["jax_cuda_visible_devices"] == devices


def test_flags_come_before_any_environment(joined, monkeypatch):
    for name, value in (SLURM | {"SLURM_NTASKS": "8"}).items():
        monkeypatch.setenv(name, value)
    parallel.initialize("h:1", 2, 1)
    assert joined == [("h:1", 2, 1)]


def test_open_mpi_5_needs_only_the_address(joined, monkeypatch):
    for name, value in MPI.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="add --coordinator=HOST:PORT of rank 0"):
        parallel.initialize()
    parallel.initialize("h:1")
    assert joined == [("h:1", 4, 3)]


def test_a_tpu_of_one_host_that_jax_cannot_place_stays_alone(joined, monkeypatch):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setenv("TPU_ML_PLATFORM", "JAX")
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    parallel.initialize()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("h:1",), "--coordinator needs --process_count and --process_index"),
        ((None, 2, 0), "need --coordinator=HOST:PORT"),
        (("h", 2, 0), "--coordinator=h: expected HOST:PORT"),
        (("h:1", 2, 2), "--process_index=2: expected 0 to 1"),
    ],
)
def test_flags_that_do_not_fit(flags, line, joined):
    with pytest.raises(UserError, match=line):
        parallel.initialize(*flags)
    assert joined == []


def test_processes_that_cannot_be_joined(joined, monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody answers\nand a trace")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=r"cannot join the other processes: DEADLINE_EXCEEDED: nobody answers$"):
        parallel.initialize("h:1", 2, 0)


@pytest.mark.parametrize("command", ["pretrain", "evaluate"])
def test_both_commands_take_the_flags(command, capsys):
    with pytest.raises(SystemExit):
        main.main([command, "--help"])
    assert {"--coordinator", "--process_count", "--process_index"} <= set(capsys.readouterr().out.split())


def test_jax_finds_the_processes_of_slurm():
    """jax's own detection, executed: two processes with srun's variables."""
    code = (
        "from ncl_jax import parallel; parallel.initialize(); import jax; "
        "print('joined', jax.process_index(), jax.process_count(), jax.device_count())"
    )
    job = SLURM | {"SLURM_JOB_ID": "4711", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}

    environment = simulated.environment(2) | job
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment | {"SLURM_PROCID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    for index, process in enumerate(processes):
        output, _ = process.communicate(timeout=120)
        assert f"joined {index} 2 4" in output, output
