"""What `ncl-jax benchmark NAME` runs.

To add one, write a module with `run(options: Options) -> Result` and list it here. Modules are imported when they run.
None needs TensorFlow, but for `input` of TFRecords.
"""

import importlib
import json
import shlex
import sys
from pathlib import Path

import jax

import ncl_jax
from ncl_jax import schema, storage, workdir
from ncl_jax.benchmark import machine
from ncl_jax.benchmark.result import Options, Result, document, markdown
from ncl_jax.errors import UserError, first_line

__all__ = ["PEERS", "REGISTRY", "run"]

# name -> (module, what it measures)
REGISTRY: dict[str, tuple[str, str]] = {
    "import": ("import_time", "seconds until the package and the command line are imported"),
    "negatives": ("negatives", "ms per image of each kind of negative"),
    "textures": ("textures", "texture synthesis: ms per image and quality"),
    "augment": ("augment", "ms per image of each augmentation recipe"),
    "knn": ("knn", "ms per query of the kNN evaluation"),
    "input": ("input", "records to device, and how long the step waits for them"),
    "step": ("step", "the pretraining step of a config, its parts and its negatives"),
    "soak": ("soak", "memory, file handles and threads over a whole run of a config"),
    "scaling": ("scaling", "a model of the step of a config on TPU v5e slices and on 8 GPUs"),
}

# What `--against` may name, and the benchmarks that know it.
PEERS: dict[str, tuple[str, ...]] = {"torch": ("step", "input"), "torch_compile": ("step",)}


def run(name: str, options: Options, output: str | None = None) -> dict[str, Result]:
    """Run one benchmark, or `all` of them but `soak`, print tables and write `output` (JSON) where it is given.

    Of `all`, one that cannot run here (no TensorFlow, no config, no memory) is named with the reason, and the others go
    on; `output` is written after each. Raises UserError for an unknown name or peer, or an `output` that cannot be
    written, before anything is measured.
    """
    ncl_jax.register()
    names = tuple(each for each in REGISTRY if each != "soak") if name == "all" else (name,)  # that takes hours
    _check(name, options, output)
    results, load = {}, machine.load_average()  # of others: before it measures
    for each in names:
        print(f"measuring {each}: {REGISTRY[each][1]}", file=sys.stderr, flush=True)
        try:
            result = importlib.import_module(f"ncl_jax.benchmark.{REGISTRY[each][0]}").run(options)
        except (UserError, jax.errors.JaxRuntimeError) as error:
            if name != "all":
                raise
            print(f"\nleft out {each}: {first_line(error)}")
            continue
        results[each] = result
        print(f"\n{markdown(each, REGISTRY[each][1], result)}", flush=True)
        if output:
            text = json.dumps(document(_command(), machine.describe(load), options, results), indent=1) + "\n"
            with workdir.writing_output(output):
                storage.write_text(Path(output), text)
    print(f"\n{machine.sentence(machine.describe(load))}")
    if output and results:
        print(f"wrote {output}")
    return results


def _command() -> str:
    """As a user types it, whatever path the script has here."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _check(name: str, options: Options, output: str | None) -> None:
    if name != "all" and name not in REGISTRY:
        raise UserError(f"{name!r}: no such benchmark; there are {', '.join(REGISTRY)}, and all")
    if not options.seconds > 0:
        raise UserError(f"--seconds={options.seconds:g}: want more than 0")
    if options.against is not None:
        if options.against not in PEERS:
            raise UserError(f"--against={options.against}: unknown; {schema.nearest(options.against, PEERS)}")
        known = PEERS[options.against]
        if name not in known:
            raise UserError(f"--against={options.against}: {name} is not compared with it; {', '.join(known)} are")
    if output:
        workdir.check_output(output)
