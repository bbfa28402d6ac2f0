"""The commands of `ncl-jax` and their flags."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ncl_jax import __version__, storage
from ncl_jax.errors import UserError

_ABOUT = "Contrastive pretraining that does not lean on texture."
_OVERRIDES = "any key of the config can be set: --config.optim.learning_rate=0.1 --config.negatives.patch.alpha=3"


class _Parser(argparse.ArgumentParser):
    """One whose errors are a line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Of every command and its flags; what it does not know are a config's `overrides`."""
    whole = _Parser("ncl-jax", description=_ABOUT, epilog=_OVERRIDES, allow_abbrev=False)
    whole.add_argument("--version", action="version", version=f"ncl_jax {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str, epilog: str | None = _OVERRIDES) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=about, epilog=epilog, allow_abbrev=False)

    sub = command("pretrain", "pretrain an encoder, or go on with it, then evaluate it")
    sub.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--workdir", required=True, help="folder of the run; the same one again goes on with it")
    sub.add_argument("--profile", action="store_true", help="trace a few steps into the workdir")
    _add_processes(sub)

    sub = command("evaluate", "evaluate a run, or a checkpoint of PyTorch, in and out of domain")
    sub.add_argument("--workdir", required=True, help="of the run; with --torch a folder for results.json")
    sub.add_argument("--torch", metavar="FILE", help="what `convert` reads: evaluate this, on the data of --config")
    sub.add_argument("--config", help="on what and how, configs/eval/NAME.py (default: as the run's own config says)")
    sub.add_argument("--stem", help="with --torch: medium or small, how a 3x3 first convolution is used")
    _add_processes(sub)

    sub = command("study", "run variants x seeds of a study, or go on with it, and compare them")
    sub.add_argument("--config", required=True, help="configs/study/NAME.py or configs/study/NAME.py:VARIANT")
    sub.add_argument("--workdir", required=True, help="folder of the study; the same one again goes on with it")
    sub.add_argument("--only", default="", help="comma-separated variants (default: all)")
    sub.add_argument("--report", action="store_true", help="run nothing: write tables and report of what is there")
    sub.add_argument(
        "--export", metavar="FOLDER", help="also keep tables and figure there, e.g. configs/study/results/NAME"
    )
    sub.add_argument("--import", dest="take_from", metavar="FOLDER", help="take over the runs that are kept there")

    sub = command("textures", "build the texture version of a dataset, or go on with it", epilog=None)
    sub.add_argument("--dataset", required=True, help="a TFDS name, a built-in one, or folder:PATH")
    sub.add_argument("--splits", default="", help="comma-separated (default: all)")
    sub.add_argument("--data_dir", help="of the source, and where the textures go (default: TFDS's own)")
    sub.add_argument("--quality", default="standard", help="standard, fast, draft or faithful (default: %(default)s)")
    sub.add_argument("--size", type=int, help="side in pixels (default: the images' own where all have one, else 224)")
    sub.add_argument("--seed", type=int, default=0, help="another one gives other textures (default: %(default)s)")
    sub.add_argument("--beam_options", help="build by Apache Beam: options as of tfds build, e.g. runner=DirectRunner")
    sub.add_argument("--process_count", type=int, help="processes that share the build and its data_dir")
    sub.add_argument("--process_index", type=int, help="of this process (default: as a cluster's environment says)")

    sub = command("convert", "tell what a checkpoint of PyTorch or of a run holds, and write it for another")
    sub.add_argument("input", help="a .pth, .pth.tar, .safetensors or .npz file, timm's folder, or a run's workdir")
    sub.add_argument("output", nargs="?", help="file to write, or timm's folder; with --config a new workdir")
    sub.add_argument("--layout", help="of OUTPUT: torchvision, timm, moco or detectron2 (default: torchvision)")
    sub.add_argument(
        "--config", help="configs/NAME.py or configs/NAME.py:VARIANT of the run that is to go on from INPUT"
    )
    sub.add_argument("--stem", help="medium or small: how a 3x3 first convolution is used, which no file shows")
    sub.add_argument("--verify", action="store_true", help="compare with PyTorch on random images, eval and train mode")

    sub = command("preview", "draw the views and negatives of a config, without training")
    sub.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--output", default="negatives.png", help="the PNG to write")

    sub = command("benchmark", "measure speed here")
    sub.add_argument("name", help="import, negatives, augment, textures, knn, input, step, scaling, soak, or all")
    sub.add_argument("--config", help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--against", help="run a peer beside, where the benchmark knows one: torch, torch_compile")
    sub.add_argument("--seconds", type=float, default=2.0, help="to measure per figure (default: %(default)s)")
    sub.add_argument("--output", help="also write everything, raw samples included, to this JSON file")
    return whole


def _add_processes(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--coordinator", help="HOST:PORT of the first process, where no cluster environment names it")
    sub.add_argument("--process_count", type=int, help="of all hosts together")
    sub.add_argument("--process_index", type=int, help="of this process, from 0")


def check_names(arguments: argparse.Namespace) -> None:
    """UserError for an empty path or name, as of a variable that is not set: it would be the folder one is in; and for
    a bucket where only a folder will do."""
    runs = arguments.command in ("pretrain", "evaluate") or (arguments.command == "convert" and arguments.config)
    for name, value in vars(arguments).items():
        flag = f"--{'import' if name == 'take_from' else name}"
        if arguments.command == "convert" and name in ("input", "output"):
            flag = name.upper()
        if value == "" and name not in ("only", "splits"):  # none of these: all
            raise UserError(f"{flag}: is empty")
        if name in ("workdir", "output", "export", "take_from") and value and storage.in_bucket(value) and not runs:
            raise UserError(f"{flag}={value}: `{arguments.command}` writes to folders only; name one")
        if name == "workdir":
            storage.locate(value)  # raises for what none of them could use


def overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`--config.a.b=value` or `--config.a.b value` -> {a.b: value}; anything else is refused."""
    found, rest = {}, list(arguments)
    while rest:
        flag = rest.pop(0)
        name, equals, value = flag.partition("=")
        if not name.startswith("--config."):
            raise UserError(f"unknown argument {flag!r}; see --help (settings are --config.KEY=VALUE)")
        if not equals:
            if not rest:
                raise UserError(f"{flag}: needs a value")
            value = rest.pop(0)
        found[name.removeprefix("--config.")] = value
    return found
