"""Files of runs: whole or not at all, in folders and in what stands for a bucket."""

import logging

import pytest

from ncl_jax import storage
from ncl_jax.errors import UserError


def test_what_fails_while_it_is_made_leaves_the_old_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(TypeError), storage.writing(tmp_path / "a.png") as file:
        file.write("no bytes")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"old")]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.write_bytes(tmp_path / "folder", b"new")
    (tmp_path / "folder").rmdir()
    with storage.writing(tmp_path / "a.png") as file:
        file.write(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"new")]


def test_other_buckets_and_missing_packages_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"s3://a/b: of buckets only gs:// is known"):
        storage.path("s3://a/b")
    with pytest.raises(UserError, match=r"gs://a/b\[1\]: in a bucket a name without"):
        storage.path("gs://a/b[1]")
    monkeypatch.setattr(storage, "_installed", lambda name: name != "gcsfs")
    with pytest.raises(UserError, match=r"gs://a/b: buckets need more packages; run: pip install"):
        storage.path("gs://a/b")


def test_a_log_in_a_bucket_is_sent_now_and_then_and_outlives_a_failure(tmp_path, monkeypatch, caplog):
    path, sent = tmp_path / "log", []

    def write(_, text):
        sent.append(text)
        if len(sent) == 2:
            raise RuntimeError("429 Too many requests")

    monkeypatch.setattr(storage, "in_bucket", lambda _: True)
    monkeypatch.setattr(storage, "write_text", write)
    monkeypatch.setattr(storage, "SENT_EVERY", 1000.0)
    log = storage.Log(path, "a\n")
    log.write("b\n")
    assert sent == ["a\n"]
    with caplog.at_level(logging.WARNING):
        log.flush()
    assert "could not be written (429 Too many requests)" in caplog.text
    monkeypatch.setattr(storage, "SENT_EVERY", 0.0)
    log.write("c\n")
    log.close()
    assert sent[1:] == ["a\nb\n", "a\nb\nc\n", "a\nb\nc\n"]
