"""Damaged files and bad datasets: the error is the documented one, in one line, in place of a wrong result."""

import dataclasses
import errno
import gc
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simulated
from builders import Jpegs
from faults import runs

from ncl_jax import checkpoint, parallel
from ncl_jax.checkpoint import Checkpoints
from ncl_jax.data import fill_cache, prepared
from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import CropStream, eval_batches
from ncl_jax.data.texture_datasets import texture_name
from ncl_jax.errors import UserError

# At the first array that it cannot read, orbax closes its event loop under the reads that are still under way.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    """These reads are let go while their test's filters stand, and not in a test of another file."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepared.prepare(lambda: Jpegs(data_dir=str(folder)))
    return open_dataset("jpegs", "train", data_dir=folder)


def small_state(number):
    rng = np.random.default_rng(number)
    return {"a": jnp.asarray(rng.normal(size=(64, 8)), jnp.float32), "step": jnp.int32(number)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {"num_classes": 10, "position": {"epoch": 0, "offset": step}})
    return folder


KINDS = {
    "truncated": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(np.random.default_rng(0).integers(0, 256, len(data), np.uint8)),
    "empty": lambda data: b"",
    "missing": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_of_a_checkpoint_may_be_damaged(kind, saved, tmp_path):
    """Whichever it is: the state is that of step 2, or step 2 is set aside and the state is that of step 1."""
    abstract = jax.eval_shape(lambda: small_state(0))
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    files = sorted(p.relative_to(saved) for p in (saved / "checkpoints" / "2").rglob("*") if p.is_file())
    assert len(files) > 5
    taken = []
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        if KINDS[kind]:
            (folder / file).write_bytes(KINDS[kind]((folder / file).read_bytes()))
        else:
            (folder / file).unlink()
        with Checkpoints(folder) as checkpoints:
            if checkpoints.steps:
                assert checkpoints.notes()["num_classes"] == 10
            with pytest.MonkeyPatch.context() as patch:
                said = []
                patch.setattr("warnings.warn", lambda message, *_, said=said, **__: said.append(str(message)))
                found = checkpoints.restore(abstract, where)
        assert found is not None, file
        said = [message for message in said if "was never awaited" not in message]  # of orbax, see above
        state, notes = found
        step = int(state["step"])
        np.testing.assert_array_equal(state["a"], small_state(step)["a"], err_msg=str(file))
        assert notes == {"num_classes": 10, "position": {"epoch": 0, "offset": step}}
        if step == 1 and said:
            assert "checkpoints/2 is damaged and set aside" in said[0]
            assert (folder / "checkpoint_2.damaged").is_dir()
        taken.append(step)
    assert 1 in taken, "no damage was noticed at all"


_DAMAGED = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from ncl_jax import parallel
from ncl_jax.checkpoint import Checkpoints

folder = Path(sys.argv[1])
state = {f"a{number}": jnp.zeros(8) for number in range(400)}
where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
with Checkpoints(folder) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, state, {"position": {}}, wait=True)
    for path in (folder / "checkpoints" / "2").rglob("d/*"):
        path.write_bytes(b"garbage")
    assert checkpoints.restore(jax.eval_shape(lambda: state), where)
"""


def test_a_damaged_one_is_told_in_a_line(tmp_path):
    """Orbax lets go of hundreds of reads, each of which had a traceback."""
    command = [sys.executable, "-W", "default", "-c", _DAMAGED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=simulated.environment(1), cwd=runs.ROOT)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "never awaited" not in line and not line.startswith("  ")]
    assert len(said) == 1, done.stderr
    assert re.search(r"checkpoints/2 is damaged and set aside: .*state/d/\w+\": ", said[0])


def test_reading_leaves_a_run_at_work_alone(saved, tmp_path):
    """Its save under way (`evaluate` while it trains ended the run), and what only this reader cannot use."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    under_way = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "2", under_way)
    shutil.copytree(tmp_path / "checkpoints" / "2", tmp_path / "checkpoints" / "4")
    for path in (tmp_path / "checkpoints" / "4").rglob("d/*"):
        path.write_bytes(b"garbage" * 20)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with Checkpoints(tmp_path, reading=True) as checkpoints:
        with pytest.warns(UserWarning, match=r"checkpoints/4 cannot be read"):
            found = checkpoints.restore(jax.eval_shape(lambda: small_state(0)), where)
        assert found is not None
        assert int(found[0]["step"]) == 2
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    with Checkpoints(tmp_path) as checkpoints:  # a run of its own tidies up
        checkpoints.save(5, small_state(5), {"position": {}}, wait=True)
    assert not under_way.exists()


@pytest.mark.parametrize(
    ("abstract", "data", "message"),
    [
        ({"a": (64, 9), "step": ()}, {}, r"another state than this config's \(a: \(64, 8\) -> \(64, 9\)\)"),
        ({"a": (64, 8)}, {}, r"another state than this config's \(step: \(\) -> None\)"),
        ({"a": (64, 8), "step": ()}, {"num_classes": 11}, r"trained on other data \(num_classes 10 -> 11\)"),
    ],
)
def test_a_good_checkpoint_of_something_else_is_not_taken_for_damaged(abstract, data, message, saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in abstract.items()}
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=f"checkpoints/2: .*{message}; leave that as it was"):
            checkpoints.restore(tree, where, data={"num_examples": 5} | data)
        assert checkpoints.steps == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EMFILE, "Too many open files"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes."),
        ValueError("PERMISSION_DENIED: Error opening manifest.ocdbt"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:30],
)
def test_what_this_machine_cannot_read_is_not_taken_for_damaged(error, saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    abstract = jax.eval_shape(lambda: small_state(0))
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    with Checkpoints(tmp_path) as checkpoints:

        def unreadable(*_):
            raise RuntimeError("load failed") from error

        monkeypatch.setattr(checkpoints._checkpointer, "load", unreadable)
        with pytest.raises(UserError, match=r"checkpoints/2: cannot be read here \(.*move the folder away"):
            checkpoints.restore(abstract, where)
        assert checkpoints.steps == [1, 2]


def test_what_only_another_process_cannot_read_is_set_aside_by_all(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    abstract = jax.eval_shape(lambda: small_state(0))
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    told = iter([True, False])
    monkeypatch.setattr(checkpoint, "_somewhere", lambda here: here or next(told))
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match="checkpoints/2 is damaged and set aside: another process could not read"):
            state, _ = checkpoints.restore(abstract, where)
        assert (int(state["step"]), checkpoints.steps) == (1, [1])


def test_a_barrier_that_another_process_did_not_come_to_is_no_damage(saved, tmp_path, monkeypatch):
    """Good checkpoints were set aside one by one, five minutes each."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))

    def waited(*_):
        raise ValueError("Timeout waiting at barrier '[op=1] _load_impl'. The original error raised was: ")

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._checkpointer, "load", waited)
        with pytest.raises(jax.errors.JaxRuntimeError, match="waiting at barrier"):
            checkpoints.restore(jax.eval_shape(lambda: small_state(0)), where)
        assert checkpoints.steps == [1, 2]


def test_a_step_may_be_damaged_again(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    abstract = jax.eval_shape(lambda: small_state(0))
    where = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    for _ in range(2):
        (tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA").unlink()
        with Checkpoints(tmp_path) as checkpoints:
            with pytest.warns(UserWarning, match="checkpoints/2 is damaged and set aside"):
                state, notes = checkpoints.restore(abstract, where)
            assert int(state["step"]) == 1
            checkpoints.save(2, small_state(2), notes, wait=True)
    assert {path.name for path in tmp_path.glob("*.damaged*")} == {"checkpoint_2.damaged", "checkpoint_2.damaged1"}


def test_a_folder_that_was_moved_under_a_save_is_noticed_by_the_next(tmp_path):
    """Orbax makes the folder of the one under way anew, and it can be written."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, small_state(1), {"position": {}}, wait=True)
        folder.rename(tmp_path / "elsewhere")
        (folder / "checkpoints").mkdir(parents=True)
        with pytest.raises(UserError, match=r"a checkpoint cannot be written \(No such file or directory\)"):
            checkpoints.save(2, small_state(2), {"position": {}})
        assert not [*(folder / "checkpoints").iterdir()]


@pytest.mark.parametrize("error", [ValueError, jax.errors.JaxRuntimeError])
def test_a_process_lost_while_saving_is_not_the_folders_fault(error, tmp_path, monkeypatch):
    """Another process's death was told as a full folder when it came in a save, as an error of another type."""
    with Checkpoints(tmp_path) as checkpoints:

        def lost(*_, **__):
            raise RuntimeError("save failed") from error("UNKNOWN: Gloo AllGather failed: Connection closed by peer")

        monkeypatch.setattr(checkpoints._checkpointer, "save_async", lost)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo AllGather failed"):
            checkpoints.save(1, small_state(1), {"position": {}})


def test_labels_out_of_range_are_refused_by_every_reader(jpegs):
    dataset = dataclasses.replace(jpegs, num_classes=2)
    line = r"jpegs\[train\]: .*#\d+ has label 2, of 2 classes \(0 to 1\); prepare the dataset again"
    with pytest.raises(UserError, match=line):
        next(CropStream(dataset, batch=8, image_size=24, seed=0))
    with pytest.raises(UserError, match=line):
        next(eval_batches(dataset, batch=8, size=24, resize=24, process=(0, 1)))
    with pytest.raises(UserError, match=line):
        fill_cache.fill(dataset, side=16, mesh=parallel.data_mesh(jax.devices()[:1]))


def test_a_dataset_smaller_than_one_batch(jpegs):
    with pytest.raises(UserError, match=r"60 examples are fewer than one batch of 64; lower config.batch"):
        CropStream(jpegs, batch=64, image_size=24, seed=0)


@pytest.mark.parametrize(
    "name", ["folder:..", "folder:/data/../../..", "folder:/", "../../etc/x", "a/../../b", "..\\..\\x"]
)
def test_names_of_datasets_cannot_leave_their_root(name, tmp_path):
    """What `ncl-jax textures` writes lies under its data_dir, whatever its source is called."""
    target = (tmp_path / texture_name(name)).resolve()
    assert target.is_relative_to(tmp_path / "textures")
    assert target != tmp_path / "textures"


@pytest.mark.parametrize("name", ["../../etc", "..", "/etc/passwd", "x/../../y"])
def test_datasets_are_not_read_from_outside_their_root(name, tmp_path):
    with pytest.raises(UserError, match="dataset "):
        open_dataset(name, "train", data_dir=tmp_path)
