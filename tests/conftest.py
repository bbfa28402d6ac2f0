"""Every test sees 8 simulated CPU devices and strict dtype and rank promotion."""

# ruff: noqa: E402  (the environment is set before jax is imported)

import gc
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Many tests compile the same step and read the same data: once is enough, for all of pytest's workers and for their
# subprocesses too.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _once = tempfile.TemporaryDirectory(prefix="ncl_jax_tests_", ignore_cleanup_errors=True)
    os.environ["NCL_JAX_TESTS"] = _once.name
ONCE = Path(os.environ["NCL_JAX_TESTS"])
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ONCE / "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1"
# Unoptimised machine code: tests compile far longer than they compute, and this compiles in a third of the time.
_flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # its older emitters compile in half the time; later ones have only the new
    _flags += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flags}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# PyTorch takes triton where it is (as beside its wheels with CUDA); imported after TensorFlow it ends the process.
sys.modules["triton"] = None

import jax
import pytest
import smoke

import ncl_jax
from ncl_jax.models import resnet

gc.set_threshold(700, 10, 1000)  # as `ncl_jax.main.console` does
ncl_jax.register()
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    """Files go to the workers in their order: pytest-xdist's own, most tests first, keeps for the end the files whose
    one test takes minutes, and leaves a worker idle there."""
    config.option.loadscopereorder = False


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """What a module compiled is of no use to the next one, and all of them together take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def compilations():
    """Grows by an entry with every program that is compiled or read from the cache."""
    seen = []

    def listener(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listener)


@pytest.fixture(scope="session")
def smoke_data() -> Path:
    """The data_dir of runs of the smoke config: the first of them draws its dataset, which takes 12 s."""
    return ONCE / "smoke_data"


@pytest.fixture(scope="session")
def overrides(smoke_data):
    """What the smoke run needs beside its file."""
    return {"data.data_dir": str(smoke_data)}


@pytest.fixture(scope="session")
def config(overrides):
    """The smoke run's."""
    return ncl_jax.load_config(smoke.CONFIG, overrides)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="module")
def two_stages():
    """The smallest ResNet without its last two stages, for what asks nothing of them: it compiles in two thirds of the
    time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.ARCHITECTURES, "resnet10", (False, (1, 1)))
        yield
