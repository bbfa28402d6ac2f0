"""Processes that decode: the same pixels as threads give, and nothing is lost where one ends."""

import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from builders import encoded, picture

from ncl_jax.data import datasets, decoders, pictures, workers
from ncl_jax.data.crop_stream import CropStream

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="they share memory as Linux does")
PHOTO = encoded(picture(1, 190, 260), quality=95)
assert len(PHOTO) > decoders.SMALL


@pytest.fixture(autouse=True)
def two_processes(monkeypatch):
    monkeypatch.setattr(decoders, "wanted", lambda: 2)
    monkeypatch.setattr(decoders, "_idle", [])
    monkeypatch.setattr(decoders, "_started", 0)
    yield
    decoders._end()


def draws(id=0):
    return [pictures.Uniform(7, 2 * id + view) for view in range(2)]


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("crops", lambda: (draws(),), {"scale": (0.2, 1.0), "side": 60, "source": True}),
        ("squeezed", tuple, {"side": 50}),
        ("centre_crop", tuple, {"resize": 70, "side": 64}),
        ("exemplars", lambda: (pictures.Uniform(3, 4),), {"side": 96}),
        ("decode", tuple, {}),
    ],
)
def test_a_process_does_what_a_thread_does(name, arguments, options):
    ours = getattr(decoders, name)(PHOTO, *arguments(), **options)
    theirs = getattr(pictures, name)(PHOTO, *arguments(), **options)
    assert decoders._started == len(decoders._idle) == 1
    for one, other in zip(parts(ours), parts(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


def parts(result):
    return result if isinstance(result, tuple) else (result,)


def test_a_stream_gives_the_same_batches_and_names_the_same_damage(tmp_path, monkeypatch):
    for id in range(24):
        path = tmp_path / "train" / f"class{id % 2}" / f"{id:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = encoded(picture(id, 190, 260), quality=95)
        path.write_bytes(data if id != 5 else data[:9000])
    dataset = datasets.open_dataset(f"folder:{tmp_path}", "train")

    def epochs():
        stream = CropStream(
            dataset, batch=8, image_size=48, seed=3, fields=("source", "id"), max_bad_share=0.5, threads=3
        )
        batches = [next(stream) for _ in range(6)]
        stream.close()
        return batches, stream.skips, stream.skipped

    ours = epochs()
    assert decoders._started == 2
    monkeypatch.setattr(decoders, "wanted", lambda: 0)
    theirs = epochs()
    assert ours[1:] == theirs[1:]
    assert ours[1] == 2
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_bad_bytes_are_bad_images_there_too():
    for _ in range(2):
        with pytest.raises(pictures.BadImage):
            decoders.decode(PHOTO[:9000])
    assert decoders._started == len(decoders._idle) == 1


def test_what_is_small_is_not_sent():
    decoders.decode(encoded(picture(1, 32, 32)))
    decoders.crops(picture(1, 32, 32), draws(), scale=(0.2, 1.0), side=16)
    assert decoders._started == 0


@pytest.mark.parametrize("what", ["request", "answer"])
def test_what_the_memory_does_not_hold_is_done_by_the_thread(what, monkeypatch):
    image = np.zeros((4800, 4800, 3), np.uint8)  # 69 MB of pixels, in a PNG of under 1
    data = encoded(image, "PNG")
    if what == "request":
        data, image = PHOTO, pictures.decode(PHOTO)
        monkeypatch.setattr(decoders, "ROOM", 2**12)
    assert image.nbytes > decoders.ROOM
    np.testing.assert_array_equal(decoders.decode(data), image)
    assert len(decoders._idle) == 1
    small = decoders.squeezed(PHOTO, side=8)[0]  # goes on
    np.testing.assert_array_equal(small, pictures.squeezed(PHOTO, side=8)[0])


def test_a_process_that_is_killed_is_done_without(caplog):
    decoders.decode(PHOTO)
    (decoder,) = decoders._idle
    os.kill(decoder._process.pid, signal.SIGKILL)
    decoder._process.wait()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(decoders.decode(PHOTO), pictures.decode(PHOTO))
    (warning,) = caplog.messages
    assert "a process that decodes images has ended, its thread goes on" in warning
    assert decoders._idle == []
    decoders.decode(PHOTO)
    assert len(decoders._idle) == 1  # the second of two


def test_a_process_that_says_something_else_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "sitecustomize.py").write_text("print('welcome to this cluster')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(decoders.decode(PHOTO), pictures.decode(PHOTO))
    assert "its thread goes on" in caplog.text
    assert decoders._idle == []


def test_none_can_be_started(monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(decoders.decode(PHOTO), pictures.decode(PHOTO))
    assert "no process could be started" in caplog.text


def test_an_interrupted_call_leaves_no_answer_to_the_next(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(decoders, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoders.decode(PHOTO)
    assert decoders._idle == []
    np.testing.assert_array_equal(decoders.squeezed(PHOTO, side=9)[0], pictures.squeezed(PHOTO, side=9)[0])


def test_a_process_ends_with_its_parent():
    script = f"""
import os, sys
sys.path[:] = {sys.path!r}
from ncl_jax.data import decoders
decoders.wanted = lambda: 1
decoders.decode(sys.stdin.buffer.read())
print(decoders._idle[0]._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", script], input=PHOTO, capture_output=True, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    child, until = int(parent.stdout), time.monotonic() + 60
    while _runs(child):
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_few_cores_need_none(monkeypatch):
    monkeypatch.undo()
    for cores, processes in ((1, 0), (2, 0), (8, 8), (16, 16), (200, workers.MOST)):
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        assert decoders.wanted() == processes


@pytest.mark.parametrize("files", workers.QUOTAS)
@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("-1 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("", None)],
)
def test_cores_are_those_that_a_container_has(text, cores, files, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    for write in (False, True):
        workers._quota.cache_clear()
        if write:
            for file, word in zip(files, text.split() if len(files) > 1 else [text], strict=False):
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(word)
        assert workers.cores() == ((cores or 64) if write else 64)
    workers._quota.cache_clear()
