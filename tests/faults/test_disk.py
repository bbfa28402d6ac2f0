"""A disk that is full, read-only or gone in mid-run: one line, and nothing that was saved is lost."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from faults import runs

FLAGS = ("--config.evaluation.every_epochs=0", "--config.log_every=1")
FLAGS += ("--config.evaluation.sets={}", "--config.evaluation.online=()")  # nothing here asks for them
STEPS_PER_EPOCH = 4
SOON = 240  # seconds, also on a slow machine; not the 300 that orbax's threads wait for each other
ROOM = "3000k"  # for two checkpoints of the smoke run, and not for three


@pytest.fixture(scope="module")
def data(smoke_data):
    return f"--config.data.data_dir={smoke_data}"


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, output = runs.finish(folder, *FLAGS, data)
    assert status == 0, output
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of ROOM, and a function that mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def again(options):
        # A file that is open for writing keeps a file system from becoming read-only: a second mount is not kept.
        return subprocess.run(["mount", "-o", f"remount,{options}", folder], capture_output=True).returncode == 0

    yield folder, again
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def read_only(tmp_path):
    """A workdir, and functions that make it read-only while files in it are open, and writable again."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    if os.geteuid():
        every = lambda mode: [path.chmod(mode) for path in [*folder.rglob("*"), folder] if path.is_dir()]  # noqa: E731
        yield folder, lambda: every(0o555), lambda: every(0o755)
        return
    # Root may write where the mode forbids it. What is mounted over the folder may be read-only at once: no file was
    # opened through it.
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["umount", folder], check=True)

    def seal():
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)

    yield folder, seal, lambda: subprocess.run(["umount", "-l", folder], check=True)
    subprocess.run(["umount", "-l", folder], capture_output=True)


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def one_line(output, *words):
    """The last line, which alone tells of the fault."""
    last = output.strip().splitlines()[-1]
    assert last.startswith("ncl-jax pretrain: "), output
    assert all(word in last for word in words), last
    assert "Traceback" not in output
    return last


def test_a_full_disk_loses_nothing_and_the_run_goes_on(small_disk, whole, data):
    disk, again = small_disk
    folder = disk / "run"
    status, output = runs.finish(folder, *FLAGS, data)
    assert status == 1, output
    one_line(output, "a checkpoint cannot be written (No space left on device)", "goes on from there")
    # The third did not fit, and the oldest, which it would have replaced, was not removed before it stood.
    assert steps(folder) == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    assert again("size=64m")
    status, output = runs.finish(folder, *FLAGS, data)
    assert status == 0, output
    assert f"going on from step {2 * STEPS_PER_EPOCH}" in output
    assert steps(folder) == [3 * STEPS_PER_EPOCH, 4 * STEPS_PER_EPOCH]
    runs.assert_same_bits(folder, whole)
    assert runs.learnt(folder) == runs.learnt(whole)


def test_no_room_at_all(small_disk, data):
    disk, _ = small_disk
    (disk / "filler").write_bytes(bytes(2990 * 1024))
    status, output = runs.finish(disk / "run", *FLAGS, data)
    assert status == 1, output
    one_line(output, "cannot be written", "No space left on device")


def test_a_workdir_that_vanishes(tmp_path, data):
    folder = tmp_path / "run"
    process = runs.start(folder, *FLAGS, "--config.epochs=500", data)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and not steps(folder):
        time.sleep(0.05)
    folder.rename(tmp_path / "elsewhere")
    status, output = runs.end(process, SOON)
    assert status == 1, output
    one_line(output, "cannot be written", "goes on")
    assert steps(tmp_path / "elsewhere"), "nothing that was saved is lost"


@pytest.mark.parametrize("moment", ["[0-9]", "*tmp*"], ids=["behind a save", "in a save"])
def test_a_workdir_that_turns_read_only(moment, read_only, whole, data):
    folder, seal, unseal = read_only
    process = runs.start(folder, *FLAGS, data)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and not [*folder.glob(f"checkpoints/{moment}")]:
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    saved = steps(folder)
    seal()
    process.send_signal(signal.SIGCONT)
    status, output = runs.end(process, SOON)
    assert status == 1, output
    one_line(output, "cannot be written", "goes on from")
    assert steps(folder) == saved
    unseal()
    status, output = runs.finish(folder, *FLAGS, data)
    assert status == 0, output
    assert re.findall(r"going on from step (\d+)", output) == [str(step) for step in saved[-1:]]
    runs.assert_same_bits(folder, whole)


def test_a_read_only_workdir_is_refused_at_the_start(small_disk, data):
    disk, again = small_disk
    assert again("ro")
    status, output = runs.finish(disk / "run", *FLAGS, data)
    assert status == 1, output
    one_line(output, "cannot be written: Read-only file system")
