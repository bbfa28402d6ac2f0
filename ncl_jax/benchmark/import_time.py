"""Wall time of a fresh interpreter that imports the package: what every command waits for."""

from functools import partial

from ncl_jax.benchmark import interpreter, timing
from ncl_jax.benchmark.result import Options, Result, spread
from ncl_jax.data.prepared import has_tensorflow

MODULES = ("ncl_jax", "ncl_jax.main", "ncl_jax.step")
TENSORFLOW = "ncl_jax.data.tf"


def run(options: Options) -> Result:
    """Each import in a process of its own, interpreter's start included; the bare start is measured beside."""
    modules = (*MODULES, TENSORFLOW) if has_tensorflow() else MODULES
    codes = {"(nothing)": "pass"} | {module: f"import {module}" for module in modules}
    calls = {name: partial(_python, code) for name, code in codes.items()}
    measured = timing.measure(calls, seconds=options.seconds)
    rows = [
        {
            "import": name,
            "seconds": timed.median,
            "quartiles": spread(timed),
            "TensorFlow": None if name == "(nothing)" else _tensorflow(name),
        }
        for name, timed in measured.items()
    ]
    return Result({"": rows}, samples={name: timed.samples for name, timed in measured.items()})


def _tensorflow(module: str) -> str:
    """Whether importing `module` imports TensorFlow too."""
    return _python(f"import sys, {module}; print('imported' if 'tensorflow' in sys.modules else 'not imported')")


def _python(code: str) -> str:
    return interpreter.output(["-c", code], what=f"python -c {code!r}").strip()
