"""TensorFlow Datasets, kept quiet, and datasets built by it: once among processes, and whole or not at all."""

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ncl_jax import locks, storage
from ncl_jax.errors import UserError, first_line

log = logging.getLogger(__name__)


def prepare(make: Callable[[], Any]) -> Any:
    """The builder that `make` makes, its dataset built where it is missing: once, and whole or not at all.

    Several processes may call this at the same time: one builds, the others wait. TFDS writes into a temporary folder
    and renames it at the end, so a killed build leaves only litter, which is removed here; the lock of a process that
    died is freed by the system.
    """
    builder = make()
    if builder.is_prepared():
        return builder
    target = Path(os.fspath(builder.data_path))
    try:
        if storage.in_bucket(builder.data_path):  # there are no locks
            if jax.process_index() == 0:
                _build(builder)
            while not (builder := make()).is_prepared():
                time.sleep(5)
            return builder
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as file:
            locks.hold(file, wait=True)
            builder = make()
            if not builder.is_prepared():
                for litter in target.parent.glob(f"incomplete.*_{target.name}"):
                    shutil.rmtree(litter, ignore_errors=True)
                _build(builder)
                builder = make()
    except (OSError, RuntimeError) as error:  # TFDS tells of a disk by the second
        raise UserError(
            f"dataset {builder.name}: cannot be built in {builder.data_path.parent}: {first_line(error)}"
        ) from error
    return builder


def _build(builder: Any) -> None:
    log.info("building dataset %s in %s", builder.name, builder.data_path)
    start = time.perf_counter()
    tfds = import_tfds()
    with contextlib.suppress(ImportError):  # only some datasets need it
        import ncl_jax.data.tf  # noqa: F401  (before TFDS imports TensorFlow its own way)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces sizes and places there; the log line says it
        builder.download_and_prepare()
    count = sum(split.num_examples for split in builder.info.splits.values())
    log.info("built dataset %s: %d images in %.0f s", builder.name, count, time.perf_counter() - start)


def command(name: str, **options: str) -> str:
    """The shell's line that prepares a dataset of TFDS. Its own `tfds build` starts only where Apache Beam and
    mlcroissant are installed, which no dataset here needs."""
    arguments = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in options.items())])
    return f'python -c "import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"'


def has_tensorflow() -> bool:
    """Whether TensorFlow and its datasets can be imported; imports neither."""
    try:
        return all(importlib.util.find_spec(name) for name in ("tensorflow", "tensorflow_datasets"))
    except ImportError:
        return False


def import_tfds() -> Any:
    """tensorflow_datasets. It does not import TensorFlow: `ncl_jax.data.tf` does.

    Raises UserError where it is not installed.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"TensorFlow Datasets cannot be imported ({first_line(error)}), which this dataset is read by; "
            "a folder of images (folder:PATH) needs neither it nor TensorFlow"
        ) from error

    logging.getLogger("absl").addFilter(_wanted)
    return tfds


def _wanted(record: logging.LogRecord) -> bool:
    """False for TFDS's remarks that tell a user nothing."""
    noise = (
        "Using custom data configuration",
        "No config specified",
        "Load dataset info",
        "Failed to load dataset",  # raised besides
        "Found a different version",  # an older one of ours; the new one is built
        "Using default data dir",
        "Variant folder",
        "`TensorInfo.dtype`",
        "`FeatureConnector.dtype`",
    )
    return not str(record.msg).startswith(noise)
