"""Where a measurement was made: without this a figure means nothing."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

from ncl_jax.data import workers

_PACKAGES = (
    "ncl-jax",
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "tensorflow-cpu",
    "tensorflow",
    "torch",
    "torchvision",
    "pillow",
)


def load_average() -> list[float] | None:
    """Processes at work, on average over 1, 5 and 15 minutes; None where the system does not say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def describe(load: list[float] | None = None) -> dict[str, Any]:
    """Devices, processor, cores, load (now, unless given), versions, date, and the flags that change what XLA makes."""
    devices = jax.devices()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpu": _cpu_model(),
        "cores": workers.cores(),
        "load": load or load_average(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "flags": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS") if os.environ.get(name)},
    }


def sentence(described: dict[str, Any]) -> str:
    """`describe`'s result as one line under a table."""
    load = (described["load"] or ["unknown"])[0]
    return f"{hardware(described)}, load {load}; {software(described)}; {described['date'][:10]}"


def line(described: dict[str, Any]) -> str:
    """What two runs need to have in common to be compared: `hardware` and `software`."""
    return f"{hardware(described)}; {software(described)}"


def hardware(described: dict[str, Any]) -> str:
    device = f"{described['devices']} x {described['device']}, " if described["platform"] != "cpu" else ""
    return f"{device}{described['cpu']}, {described['cores']} core{'s' * (described['cores'] != 1)}"


def software(described: dict[str, Any]) -> str:
    return f"jax {described['versions'].get('jax')}, Python {described['python']}"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
