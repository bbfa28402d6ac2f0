"""Where a run lies: in a folder, or in a bucket of Google's (`gs://BUCKET/RUN`), which all hosts of a TPU pod see."""

import contextlib
import importlib.util
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncl_jax.errors import UserError, first_line

_BUCKET = "gs://"


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of what it lies in
        return False


# etils asks for it once, and would take TensorFlow, which the tests cannot send to a bucket of their own.
if _installed("gcsfs"):
    os.environ.setdefault("EPATH_USE_TF", "0")


def in_bucket(path: str | os.PathLike) -> bool:
    """Whether it is no file of this machine: nothing there can be locked, renamed at once, or appended to."""
    return "://" in os.fspath(path)


def locate(path: str | os.PathLike) -> Path:
    """The absolute path: a `pathlib.Path`, or in a bucket one of etils, which has the same methods.

    Raises UserError for another kind of bucket, and where the packages that write to buckets are not installed.
    """
    text = os.fspath(path)
    if not in_bucket(text):
        return Path(text).expanduser().resolve()
    if not text.startswith(_BUCKET):
        raise UserError(f"{text}: of buckets only {_BUCKET} is known; mount this one and name its folder")
    if not all(map(_installed, ("google.cloud.storage", "gcsfs"))):
        raise UserError(f'{text}: buckets need more packages; run: pip install -e ".[gcs]"')
    from etils import epath

    logging.getLogger("gcsfs").setLevel(logging.ERROR)  # it warns of each file of a bucket whose kind it cannot ask for
    found: Any = epath.Path(text)
    return found


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """UserError for whatever is raised inside where the path is in a bucket: each package has errors of its own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not in_bucket(path):
            raise
        raise UserError(f"{path}: cannot be reached ({first_line(error)})") from error


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: in a folder written beside, then renamed."""
    if in_bucket(path):
        path.write_text(text)
        return
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")  # of its own: two may write the same file
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


class Log:
    """A text file that grows, and whose beginning is `text`. In a bucket every `write` sends all of it again."""

    def __init__(self, path: Path, text: str) -> None:
        write_text(path, text)
        self._path, self._text = path, text
        self._file = None if in_bucket(path) else path.open("a")

    def write(self, text: str) -> None:
        if self._file is None:
            self._text += text
            write_text(self._path, self._text)
        else:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
