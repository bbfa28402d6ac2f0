"""Where a run lies: in a folder, or in a bucket of Google's (`gs://BUCKET/RUN`), which all hosts of a TPU pod see."""

import contextlib
import importlib.util
import io
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncl_jax.errors import UserError, first_line

log = logging.getLogger(__name__)

BUCKET = "gs://"
SENT_EVERY = 30.0  # seconds between two times that a log in a bucket is sent


def in_bucket(path: str | os.PathLike) -> bool:
    """Whether it is no file of this machine: nothing there can be locked, renamed at once, or appended to."""
    return "://" in os.fspath(path)


def path(name: str | os.PathLike) -> Path:
    """A `pathlib.Path`, with the home folder for `~`, or in a bucket a path of etils, which has the same methods.

    Raises UserError for another kind of bucket, and where the packages that write to buckets are not installed.
    """
    text = os.fspath(name)
    if not in_bucket(text):
        return Path(text).expanduser()
    if not text.startswith(BUCKET):
        raise UserError(f"{text}: of buckets only {BUCKET} is known; mount this one and name its folder")
    if set(text) & set("*?["):
        raise UserError(f"{text}: in a bucket a name without * ? and [ is wanted: orbax takes these for patterns")
    if not all(map(_installed, ("google.cloud.storage", "gcsfs"))):
        raise UserError(f'{text}: buckets need more packages; run: pip install -e ".[gcs]"')
    from etils import epath
    from etils.epath import gpath
    from fsspec.config import conf

    # Not by TensorFlow, which etils takes where it is installed, and remembers: the tests cannot send it elsewhere.
    os.environ["EPATH_USE_TF"] = "0"
    with contextlib.suppress(AttributeError):  # a private name; without it TensorFlow may be taken
        gpath._is_tf_installed.cache_clear()
    # What one process remembers of a folder another has changed since.
    conf.setdefault("gcs", {})["use_listings_cache"] = False
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what it raises, with a traceback, and warns besides
    found: Any = epath.Path(text)
    return found


def locate(name: str | os.PathLike) -> Path:
    """`path`, absolute."""
    found = path(name)
    return found if in_bucket(found) else found.resolve()


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of what it lies in
        return False


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
    """UserError for whatever is raised inside where the path is in a bucket: each package has errors of its own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not in_bucket(path):
            raise
        raise UserError(f"{path}: cannot be reached ({first_line(error)})") from error


def claim(folder: Path) -> None:
    """Find out whether a run can lie in this folder of a bucket. Orbax asks for the bucket itself, but only once it has
    checkpoints to delete; not every role that may write may ask. Raises what the packages do."""
    from google.cloud import storage

    storage.Client().get_bucket(os.fspath(folder).removeprefix(BUCKET).partition("/")[0])
    write_text(folder / ".lock", "")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path`, which is in a folder, that takes its place in the end, unless an error ends it."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")  # of its own: two may write the same file
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all: in a folder by `replacing`."""
    if in_bucket(path):
        path.write_bytes(data)
        return
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of the text as UTF-8."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[io.BytesIO]:
    """A file whose bytes are written (`write_bytes`) in the end, unless an error ends it."""
    with io.BytesIO() as file:
        yield file
        write_bytes(path, file.getvalue())


class Log:
    """A text file that grows, and whose beginning is `text`.

    In a bucket nothing can be appended: all of it is sent again, but only now and then, and at `flush` and `close`. If
    that fails the next time carries it.
    """

    def __init__(self, path: Path, text: str) -> None:
        write_text(path, text)
        self._path, self._text, self._sent = path, text, time.monotonic()
        self._file = None if in_bucket(path) else path.open("a")

    def write(self, text: str) -> None:
        if self._file is not None:
            self._file.write(text)
            self._file.flush()
            return
        self._text += text
        if time.monotonic() - self._sent >= SENT_EVERY:
            self.flush()

    def flush(self) -> None:
        if self._file is None:
            try:
                write_text(self._path, self._text)
            except Exception as error:  # the packages' errors have no kind in common
                log.warning("%s: could not be written (%s)", self._path, first_line(error))
            self._sent = time.monotonic()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
