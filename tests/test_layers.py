"""Imports point down, stay light, and leave each outside package to its one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "ncl_jax"
# The floor of every module, by the longest matching prefix (DESIGN, section 2).
FLOORS = {
    "errors": 0,
    "locks": 0,
    "storage": 0,
    "schema": 0,
    "progress": 0,
    "command_line": 0,
    "config": 0,
    "config_file": 0,
    "losses": 0,
    "parallel": 0,
    "signals": 0,
    "models": 0,
    "augment": 0,
    "textures": 0,
    "textures.build": 3,
    "textures.build_examples": 3,
    "textures.build_sample": 3,
    "textures.build_tfds": 3,
    "negatives": 1,
    "optim": 1,
    "online_probe": 1,
    "data": 1,
    "sheets": 1,
    "metrics": 1,
    "convert": 1,
    "convert.command": 4,  # reads and starts runs
    "methods": 2,
    "state": 2,
    "step": 3,
    "checkpoint": 3,
    "workdir": 3,
    "preview": 3,
    "evaluation": 3,
    "feed": 3,
    "train": 4,
    "benchmark": 4,
    "study": 5,
    "main": 6,
}
# Outside package -> where alone it may be imported.
HOMES = {
    "tensorflow": ("data.tf",),
    "tensorflow_datasets": ("data", "textures.build"),
    "clu": ("metrics",),
    "orbax": ("checkpoint",),
    "flax": ("models",),
    "torch": ("convert", "benchmark"),
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


def floor(module):
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOORS:
            return FLOORS[".".join(parts[:length])]
    raise AssertionError(f"ncl_jax.{module} stands on no floor: add it to FLOORS")


def imports(path):
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module):
    for name in imports(MODULES[module]):
        own = name.removeprefix("ncl_jax.")
        if name.startswith("ncl_jax.") and own in MODULES:
            assert floor(own) <= floor(module), f"ncl_jax.{module} imports {name} from a higher floor"
        for package, homes in HOMES.items():
            if name.split(".")[0] == package:
                assert module.startswith(homes), f"ncl_jax.{module} imports {package}"


@pytest.mark.parametrize("path", sorted(ROOT.parent.glob("configs/**/*.py")), ids=lambda p: p.stem)
def test_configs_import_nothing_of_ours(path):
    assert not any(name.startswith("ncl_jax") for name in imports(path))


def test_files_stay_short():
    lengths = {str(path): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > 330} == {}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("ncl_jax", ["jax", "tensorflow", "flax"]),
        ("ncl_jax.main", ["tensorflow", "clu", "orbax", "matplotlib", "flax"]),
        ("ncl_jax.step", ["tensorflow", "tensorflow_datasets", "clu", "orbax"]),
    ],
)
def test_import_brings_no_more_than_it_needs(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
