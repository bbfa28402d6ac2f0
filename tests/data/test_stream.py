import contextlib
import gc
import itertools
import json
import logging
import shutil
import threading
import time
import weakref

import numpy as np
import pytest
from builders import encoded, picture

from ncl_jax.config import Config, Data, Model
from ncl_jax.data import rows
from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import CropStream, TrainStream, eval_batches
from ncl_jax.errors import UserError

# Whether the dataset is shuffled whole or is too large for it.
BUFFERS = {"whole": 100, "ranged": 16}


@pytest.fixture(params=BUFFERS)
def buffer(request):
    return BUFFERS[request.param]


def make(dataset, **options):
    options = {"batch": 8, "image_size": 24, "seed": 1, "fields": ("source", "id"), "threads": 2, **options}
    return CropStream(dataset, **options)


def take(stream, count):
    return list(itertools.islice(stream, count))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_wire_batch(data_dir, buffer):
    batch = next(make(open_dataset("jpegs", "train", data_dir=data_dir), shuffle_buffer=buffer))
    for key in ("query", "key", "source"):
        assert batch[key].shape == (8, 24, 24, 3)
        assert batch[key].dtype == np.uint8
    assert (batch["query"] != batch["key"]).any()
    assert batch["box"].dtype == np.float32
    assert (batch["box"][:, 2:] > batch["box"][:, :2]).all()
    np.testing.assert_array_equal(batch["label"], batch["id"] % 3)
    np.testing.assert_array_equal(batch["key_order"], np.arange(8))
    assert {batch[key].dtype for key in ("label", "id", "key_order")} == {np.dtype(np.int32)}


def test_an_epoch_shows_every_example_at_most_once_in_a_new_order(data_dir, buffer):
    stream = make(open_dataset("jpegs", "train", data_dir=data_dir), shuffle_buffer=buffer)
    assert stream.steps_per_epoch == 7
    epochs = [np.concatenate([batch["id"] for batch in take(stream, 7)]) for _ in range(2)]
    for ids in epochs:
        assert len(set(ids)) == 56
    assert (epochs[0] != epochs[1]).any()
    assert np.abs(np.diff(epochs[0])).mean() > 5  # shuffled, not merely rotated


def test_the_next_epoch_is_begun_while_this_one_lasts(data_dir, monkeypatch):
    """Else every epoch would begin with a wait for its shuffle buffer of two batches."""
    began, read = [], rows.shuffled

    def shuffled(*arguments, **options):
        for batch in read(*arguments, **options):
            began.append(threading.current_thread().name)
            yield batch

    monkeypatch.setattr(rows, "shuffled", shuffled)
    stream = make(open_dataset("jpegs", "train", data_dir=data_dir), shuffle_buffer=16)
    with contextlib.closing(stream):
        assert (len(take(stream, 3)), len(began)) == (3, 5)  # two more are under way
        take(stream, 1)
        end = time.monotonic() + 30
        while len(began) < 7 and time.monotonic() < end:
            time.sleep(0.01)
        assert (len(began), began[-1]) == (7, "next epoch_0")
        assert len(take(stream, 10)) == 10


def test_resumes_to_the_bit(data_dir, buffer):
    """In the middle of an epoch and in the next one, though records are skipped."""
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    options = {"shuffle_buffer": buffer, "max_bad_share": 1.0}
    stream, positions, batches = make(dataset, **options), [], []
    for batch in itertools.islice(stream, 12):
        batches.append(batch)
        positions.append(json.loads(json.dumps(stream.position)))
    assert positions[6] == {"epoch": 1, "offset": 0}
    for done in (3, 9):
        resumed = make(dataset, position=positions[done - 1], **options)
        assert_same(take(resumed, 12 - done), batches[done:])


def test_the_end_of_an_epoch_is_the_start_of_the_next(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    ends = [make(dataset, position=p) for p in ({"epoch": 0, "offset": 56}, {"epoch": 1, "offset": 0})]
    assert_same(*[take(stream, 2) for stream in ends])
    assert ends[0].position == ends[1].position == {"epoch": 1, "offset": 16}


def test_a_position_of_another_batch_or_dataset_is_refused(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    for position in ({"epoch": 0, "offset": 4}, {"epoch": 0, "offset": 64}, {"epoch": -1, "offset": 0}):
        with pytest.raises(UserError, match="is none of jpegs"):
            make(dataset, position=position)


def test_global_batches_do_not_depend_on_the_number_of_processes(data_dir):
    """Though records are skipped."""
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    options = {"max_bad_share": 1.0, "shuffle_keys": True, "key_blocks": 2}
    alone = take(make(dataset, **options), 9)
    parts = [take(make(dataset, process=(index, 2), **options), 9) for index in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, alone)


def test_large_datasets_are_cut_into_one_part_per_process(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    seen = []
    for index in range(2):
        stream = make(dataset, process=(index, 2), shuffle_buffer=16)
        seen.append({int(i) for batch in take(stream, 14) for i in batch["id"]})
        assert stream.position == {"epoch": 2, "offset": 0}
    assert seen[0] <= set(range(30))
    assert seen[1] <= set(range(30, 60))


def test_crops_follow_from_seed_epoch_and_id(data_dir):
    """The same record gets the same crops in another order; another seed or epoch gives others."""
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)

    def boxes(stream, steps):
        batches = take(stream, steps)
        return dict(
            zip(
                np.concatenate([b["id"] for b in batches]).tolist(),
                np.concatenate([b["box"] for b in batches]).tolist(),
                strict=True,
            )
        )

    whole, ranged = (make(dataset, shuffle_buffer=size) for size in (100, 16))
    first, other, second = boxes(whole, 7), boxes(ranged, 7), boxes(whole, 7)
    both = first.keys() & other.keys()
    assert len(both) > 50
    assert all(first[i] == other[i] for i in both)
    assert all(first[i] != second[i] for i in first.keys() & second.keys())
    third = boxes(make(dataset, seed=2), 7)
    assert all(first[i] != third[i] for i in first.keys() & third.keys())


def test_keys_are_shuffled_within_the_process(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    plain, shuffled = (take(make(dataset, shuffle_keys=flag, process=(1, 2)), 3) for flag in (False, True))
    orders = []
    for a, b in zip(plain, shuffled, strict=True):
        order = b["key_order"]
        assert sorted(order) == [4, 5, 6, 7]
        np.testing.assert_array_equal(b["key"], a["key"][order - 4])
        np.testing.assert_array_equal(b["query"], a["query"])
        orders.append(tuple(order))
    assert len(set(orders)) > 1


def test_bad_records_are_replaced_counted_and_named_once(data_dir, buffer, caplog):
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    stream = make(dataset, shuffle_buffer=buffer, max_bad_share=1.0)
    with caplog.at_level(logging.WARNING):
        batches = take(stream, 21)
    ids = np.concatenate([batch["id"] for batch in batches])
    assert not {7, 20} & set(ids)
    for batch in batches:
        np.testing.assert_array_equal(batch["label"], batch["id"] % 3)
        assert (batch["query"].reshape(8, -1).max(axis=1) > 0).all()
    assert sorted(name.rsplit("#")[1] for name in stream.skipped) == ["20", "7"]
    assert 4 <= stream.skips <= 6  # in three epochs that leave out 4 records each
    assert caplog.text.count("jpegs-bad.tfrecord-00000-of-00001#20") == 1


def test_too_many_bad_records_stop_the_run(data_dir, buffer):
    stream = make(open_dataset("jpegs", "bad", data_dir=data_dir), shuffle_buffer=buffer, max_bad_share=0.02)
    with pytest.raises(UserError, match=r"jpegs\[bad\]: \d+ of \d+ records do not decode.*0.02; the last: .*#"):
        take(stream, 100)
    assert stream.skips > 2


def test_as_few_bad_records_as_chance_brings_do_not_stop_it(data_dir):
    """Of the first hundred records more than of all may be bad: of 0.5 % on the average, two are 1.6 % of 128."""
    rng, stream = np.random.default_rng(0), make(open_dataset("jpegs", "train", data_dir=data_dir))
    stream.steps_per_epoch = 20_000

    def see(share):
        stream.skips = stream._seen = 0
        for _ in range(1000):
            stream._seen += 128
            stream.skips += rng.binomial(128, share)
            stream._check_share()

    for _ in range(20):
        see(0.005)
    with pytest.raises(UserError, match="do not decode, more than"):
        see(0.015)


def test_a_stream_that_is_closed_is_gone(data_dir, buffer):
    """Its threads, records and buffers with it, and not when the garbage collector comes by."""
    stream = make(open_dataset("jpegs", "train", data_dir=data_dir), shuffle_buffer=buffer)
    next(stream)
    alive = weakref.ref(stream)
    gc.disable()
    try:
        stream.close()
        del stream
        for _ in range(100):  # a thread may be at work for it still
            time.sleep(0.05 if alive() else 0)
        assert alive() is None
    finally:
        gc.enable()


def test_only_bad_records(data_dir, buffer):
    stream = make(open_dataset("jpegs", "rotten", data_dir=data_dir), shuffle_buffer=buffer)
    with pytest.raises(UserError, match=r"rotten.* does not decode, nor does any of 100 records"):
        next(stream)


def test_a_damaged_file_is_named(data_dir, tmp_path, buffer):
    shutil.copytree(data_dir / "jpegs", tmp_path / "jpegs")
    path = next(tmp_path.rglob("jpegs-train.tfrecord*"))
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:5000] + b"\0" * 2000 + whole[7000:]):
        path.write_bytes(damage)
        dataset = open_dataset("jpegs", "train", data_dir=tmp_path)
        with pytest.raises(UserError, match=r"jpegs-train.tfrecord-00000-of-00001 is damaged"):
            take(make(dataset, shuffle_buffer=buffer), 8)
        with pytest.raises(UserError, match=r"is damaged"):
            list(eval_batches(dataset, batch=8, size=24, resize=24, process=(0, 1)))


def test_folder_with_every_kind_of_file(tmp_path):
    image = picture(3)
    files = {
        "grey.jpg": encoded(image, mode="L"),
        "cmyk.jpg": encoded(image, mode="CMYK"),
        "alpha.png": encoded(image, "PNG", mode="RGBA"),
        "dot.png": encoded(image[:1, :1], "PNG"),
        "wide.jpg": encoded(np.zeros((1, 20_000, 3), np.uint8)),
        "empty.jpg": b"",
        "cut.jpg": encoded(image)[:500],
        "text.png": b"hello",
    }
    for name, data in files.items():
        path = tmp_path / "train" / "thing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    dataset = open_dataset(f"folder:{tmp_path}", "train")
    stream = make(dataset, max_bad_share=1.0)
    batch = next(stream)
    assert batch["query"].shape == (8, 24, 24, 3)
    assert {path.rsplit("/")[-1] for path in stream.skipped} == {"empty.jpg", "cut.jpg", "text.png"}
    (batch,) = eval_batches(dataset, batch=8, size=24, resize=32, process=(0, 1))
    bad = {dataset.paths[i].rsplit("/")[-1] for i in batch["id"][~batch["mask"]]}
    assert bad == {"empty.jpg", "cut.jpg", "text.png"}


def test_a_file_that_vanishes_is_skipped(folder, tmp_path):
    shutil.copytree(folder / "train", tmp_path / "train")
    dataset = open_dataset(f"folder:{tmp_path}", "train")
    (tmp_path / "train" / "cat" / "1.jpg").unlink()
    stream = make(dataset, batch=6)
    assert 1 not in {dataset.paths.index(p) for p in stream.skipped}
    next(stream)
    assert [path.rsplit("/")[-2:] for path in stream.skipped] == [["cat", "1.jpg"]]


def test_one_view_for_a_probe_and_no_labels(data_dir):
    """Small images of one size are decoded once; a position in them holds as well."""
    dataset = open_dataset("unlabelled", "train", data_dir=data_dir)
    stream = make(dataset, batch=2, views=1, image_size=16, crop_scale=(0.08, 1.0), fields=())
    first = take(stream, 5)
    assert first[0].keys() == {"query", "box", "label"}
    assert first[0]["query"].shape == (2, 16, 16, 3)
    assert (first[0]["label"] == -1).all()
    options = {"batch": 2, "views": 1, "image_size": 16, "crop_scale": (0.08, 1.0), "fields": ()}
    assert_same(take(make(dataset, position={"epoch": 1, "offset": 2}, **options), 2), first[3:])
    ranged = take(make(dataset, shuffle_buffer=2, **options), 2)
    assert ranged[0]["query"].shape == (2, 16, 16, 3)


def test_refusals(data_dir):
    dataset = open_dataset("unlabelled", "train", data_dir=data_dir)
    with pytest.raises(UserError, match="4 examples are fewer than one batch of 8"):
        make(dataset)
    with pytest.raises(UserError, match="cannot be shared evenly by 3 processes"):
        make(dataset, batch=4, process=(0, 3))
    with pytest.raises(UserError, match="field 'mask' of the stream: unknown; one of source, texture, id"):
        make(dataset, batch=4, fields=("mask",))
    with pytest.raises(UserError, match="cannot be shared evenly"):
        eval_batches(dataset, batch=4, size=8, resize=8, process=(0, 3))
    with pytest.raises(UserError, match="resize = 8: is below the crop of 16"):
        eval_batches(dataset, batch=4, size=16, resize=8, process=(0, 1))


def test_train_stream_reads_the_config(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    data = Data(image_size=24, shuffle_buffer=100)
    config = Config(method=None, negatives={}, seed=1, batch=8, data=data, model=Model(bn_groups=2))
    ours = take(TrainStream(dataset, config, fields=("source", "id")), 2)
    assert_same(ours, take(make(dataset, shuffle_keys=True), 2))
