"""Locks of files, also where there are none."""

import errno
import fcntl

import pytest

from ncl_jax import locks


def test_a_file_is_one_holders_until_it_is_closed(tmp_path):
    with (tmp_path / "lock").open("a+") as one, (tmp_path / "lock").open("a+") as other:
        assert locks.hold(one)
        assert not locks.hold(other)
        one.close()
        assert locks.hold(other, wait=True)


def _says(error):
    def flock(*_):
        raise OSError(error, "the file system's answer")

    return flock


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_lets_everybody_in(answer, tmp_path, monkeypatch):
    """As Lustre without `-o flock` does: no run could start there, for another that does not exist."""
    monkeypatch.setattr(fcntl, "flock", _says(answer))
    with (tmp_path / "lock").open("a+") as file:
        assert locks.hold(file)


def test_a_disk_that_fails_is_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", _says(errno.EIO))
    with (tmp_path / "lock").open("a+") as file, pytest.raises(OSError, match="answer"):
        locks.hold(file)
