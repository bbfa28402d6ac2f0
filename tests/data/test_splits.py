import pytest
import tensorflow_datasets as tfds

from ncl_jax.data import splits
from ncl_jax.errors import UserError

SIZES = {"train": 203, "test": 10, "big-val": 7}


@pytest.mark.parametrize(
    "spec",
    [
        *("train", "test[:3]", "train[:50%]+test[2:]", "train[-10%:]", "train[33%:66%]", "test[-3:-1]", "test[1:2]"),
        *("train[:99.5%]", "train[0.5%:-12.25%]", "train[0:80%]", "train[-20:90%]", "train[20%:90]"),
    ],
)
def test_slices_are_those_of_tfds(spec):
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in SIZES.items()
    }
    parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(tfds.core.splits.SplitDict(infos.values()))
    theirs = [(p.splitname, p.from_ or 0, SIZES[p.splitname] if p.to is None else p.to) for p in parts]
    assert splits.parse("x", spec, SIZES) == theirs


def test_all_and_names_with_a_dash():
    assert splits.parse("x", "all", SIZES) == [(name, 0, size) for name, size in SIZES.items()]
    assert splits.parse("x", "big-val[1:]", SIZES) == [("big-val", 1, 7)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("val", "no split 'val'; it has train"),
        ("train[", "cannot be read; slices are"),
        ("trian", "did you mean 'train'?"),
        ("test[5:5]", "empty"),
        ("test[:99]", "beyond"),
        ("test[:120.5%]", "beyond"),
        ("test[:2.5]", "cannot be read"),
        ("test[:1.2.3%]", "cannot be read"),
        ("test[-1%:]", "is empty"),
    ],
)
def test_refusals(spec, words):
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        splits.parse("x", spec, SIZES)


def test_where_there_is_one_split_slices_of_it_are_named():
    with pytest.raises(UserError) as caught:
        splits.parse("x", "test", {"train": 10})
    words = "no split 'test'; it has train; of one, slices are train and test: train[:80%], train[80%:]"
    assert str(caught.value) == f"dataset x: {words}"
