"""The command line: parses, starts the processes' common runtime, dispatches. No work is done here."""

import argparse
import gc
import logging
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

import ncl_jax
from ncl_jax import storage
from ncl_jax.errors import UserError, first_line

_ABOUT = "Contrastive pretraining that does not lean on texture."
_OVERRIDES = "any key of the config can be set: --config.optim.learning_rate=0.1 --config.negatives.patch.alpha=3"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ncl-jax` with these arguments; the exit status is 0, or 1 after a line that says what to mend."""
    # absl and others talk a lot at start; what matters to a user is said by this package.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ncl_jax").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    try:
        overrides = _overrides(rest)
        _check_names(arguments)
        arguments.run(arguments, overrides)
    except UserError as error:
        print(f"ncl-jax {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ncl-jax {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__module__.startswith(("gcsfs", "aiohttp", "google.api_core", "google.auth", "google.cloud")):
            print(f"ncl-jax {arguments.command}: a bucket failed ({first_line(error)})", file=sys.stderr)
            return 1
        if not _among_others():
            raise
        if type(error).__name__ == "JaxRuntimeError":  # of a collective whose other end is gone
            lost = f"lost another process of this run ({first_line(error)})"
            lost += "; start all again: they go on from the last checkpoint"
            print(f"ncl-jax {arguments.command}: {lost}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 1
    return 0


def console() -> None:
    """`main` as a process. After an error it is gone at once: the threads of a save that failed would wait minutes for
    each other, and jax at its exit for the other processes of the run."""
    # Modules and traced programs are a million objects that stay: to look through all of them time and again (the third
    # number says how seldom) took a twentieth of a short run and kept its memory 4 MB of 1,160 lower. Younger ones are
    # collected as ever.
    gc.set_threshold(700, 10, 1000)
    status = main()
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _among_others() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


class _Parser(argparse.ArgumentParser):
    """One whose errors are a line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("ncl-jax", description=_ABOUT, epilog=_OVERRIDES, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, about: str, epilog: str | None = _OVERRIDES):
        sub = commands.add_parser(name, help=about, description=about, epilog=epilog, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = command("pretrain", _pretrain, "pretrain an encoder, or go on with it, then evaluate it")
    sub.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--workdir", required=True, help="folder of the run; the same one again goes on with it")
    sub.add_argument("--profile", action="store_true", help="trace a few steps into the workdir")
    _add_processes(sub)

    sub = command("evaluate", _evaluate, "evaluate a run, or a checkpoint of PyTorch, in and out of domain")
    sub.add_argument("--workdir", required=True, help="of the run; with --torch a folder for results.json")
    sub.add_argument("--torch", metavar="FILE", help="what `convert` reads: evaluate this, on the data of --config")
    sub.add_argument("--config", help="on what and how, configs/eval/NAME.py (default: as the run's own config says)")
    sub.add_argument("--stem", help="with --torch: medium or small, how a 3x3 first convolution is used")
    _add_processes(sub)

    sub = command("study", _study, "run variants x seeds of a study, or go on with it, and compare them")
    sub.add_argument("--config", required=True, help="configs/study/NAME.py or configs/study/NAME.py:VARIANT")
    sub.add_argument("--workdir", required=True, help="folder of the study; the same one again goes on with it")
    sub.add_argument("--only", default="", help="comma-separated variants (default: all)")
    sub.add_argument("--report", action="store_true", help="run nothing: write tables and report of what is there")
    sub.add_argument(
        "--export", metavar="FOLDER", help="also keep tables and figure there, e.g. configs/study/results/NAME"
    )
    sub.add_argument("--import", dest="take_from", metavar="FOLDER", help="take over the runs that are kept there")

    sub = command("textures", _textures, "build the texture version of a dataset, or go on with it", epilog=None)
    sub.add_argument("--dataset", required=True, help="a TFDS name, a built-in one, or folder:PATH")
    sub.add_argument("--splits", default="", help="comma-separated (default: all)")
    sub.add_argument("--data_dir", help="of the source, and where the textures go (default: TFDS's own)")
    sub.add_argument("--quality", default="standard", help="standard, fast, draft or faithful (default: %(default)s)")
    sub.add_argument("--size", type=int, help="side in pixels (default: the images' own where all have one, else 224)")
    sub.add_argument("--seed", type=int, default=0, help="another one gives other textures (default: %(default)s)")
    sub.add_argument("--beam_options", help="build by Apache Beam: options as of tfds build, e.g. runner=DirectRunner")
    sub.add_argument("--process_count", type=int, help="processes that share the build and its data_dir")
    sub.add_argument("--process_index", type=int, help="of this process (default: as a cluster's environment says)")

    sub = command("convert", _convert, "tell what a checkpoint of PyTorch or of a run holds, and write it for another")
    sub.add_argument("input", help="a .pth, .pth.tar, .safetensors or .npz file, timm's folder, or a run's workdir")
    sub.add_argument("output", nargs="?", help="file to write, or timm's folder; with --config a new workdir")
    sub.add_argument("--layout", help="of OUTPUT: torchvision, timm, moco or detectron2 (default: torchvision)")
    sub.add_argument(
        "--config", help="configs/NAME.py or configs/NAME.py:VARIANT of the run that is to go on from INPUT"
    )
    sub.add_argument("--stem", help="medium or small: how a 3x3 first convolution is used, which no file shows")
    sub.add_argument("--verify", action="store_true", help="compare with PyTorch on random images, eval and train mode")

    sub = command("preview", _preview, "draw the views and negatives of a config, without training")
    sub.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--output", default="negatives.png", help="the PNG to write")

    sub = command("benchmark", _benchmark, "measure speed here")
    sub.add_argument("name", help="import, negatives, augment, textures, knn, input, step, scaling, soak, or all")
    sub.add_argument("--config", help="configs/NAME.py or configs/NAME.py:VARIANT")
    sub.add_argument("--against", help="run a peer beside, where the benchmark knows one: torch, torch_compile")
    sub.add_argument("--seconds", type=float, default=2.0, help="to measure per figure (default: %(default)s)")
    sub.add_argument("--output", help="also write everything, raw samples included, to this JSON file")
    return parser


def _add_processes(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--coordinator", help="HOST:PORT of the first process, where no cluster environment names it")
    sub.add_argument("--process_count", type=int, help="of all hosts together")
    sub.add_argument("--process_index", type=int, help="of this process, from 0")


def _check_names(arguments: argparse.Namespace) -> None:
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


def _overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`--config.a.b=value` or `--config.a.b value` -> {a.b: value}; anything else is refused."""
    overrides, rest = {}, list(arguments)
    while rest:
        flag = rest.pop(0)
        name, equals, value = flag.partition("=")
        if not name.startswith("--config."):
            raise UserError(f"unknown argument {flag!r}; see --help (settings are --config.KEY=VALUE)")
        if not equals:
            if not rest:
                raise UserError(f"{flag}: needs a value")
            value = rest.pop(0)
        overrides[name.removeprefix("--config.")] = value
    return overrides


# The commands import what they need when they run: `--help` and errors come at once.


def _load(arguments: argparse.Namespace, overrides: dict[str, str]):
    return ncl_jax.load_config(arguments.config, overrides)


def _join(arguments: argparse.Namespace) -> None:
    from ncl_jax import parallel

    parallel.initialize(arguments.coordinator, arguments.process_count, arguments.process_index)


def _pretrain(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    config = _load(arguments, overrides)
    _join(arguments)
    from ncl_jax import train

    train.pretrain(config, arguments.workdir, profile=arguments.profile)


def _evaluate(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    if arguments.torch and not arguments.config:
        raise UserError("--torch: needs --config, on what and how to evaluate it, e.g. configs/eval/imagenet.py")
    if arguments.stem and not arguments.torch:
        raise UserError("--stem: belongs to --torch; a run's config says how its stem is")
    from ncl_jax import workdir

    ncl_jax.register()
    if arguments.torch:
        config = _load(arguments, overrides)
    else:
        config = workdir.read_config(arguments.workdir, overrides, evaluate_as=arguments.config)
    _join(arguments)
    from ncl_jax.evaluation import protocol, report

    if arguments.torch:
        protocol.evaluate_torch(config, arguments.torch, arguments.workdir, stem=arguments.stem)
    else:
        name = report.name_of(arguments.config) if arguments.config else ""
        if not name and overrides.keys() - {"data.data_dir"}:  # not what the run's own results are
            name = "changed"
        protocol.evaluate_workdir(config, arguments.workdir, name=name)


def _study(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    ncl_jax.register()
    from ncl_jax.study import plan

    chosen = plan.load(arguments.config, overrides)
    from ncl_jax.study import command

    flags = [f"--config={arguments.config}", f"--workdir={arguments.workdir}"]
    flags += [f"--config.{key}={value}" for key, value in overrides.items()]
    flags += [f"--only={arguments.only}"] if arguments.only else []
    command.run(
        chosen,
        arguments.workdir,
        only=tuple(name for name in arguments.only.split(",") if name),
        report=arguments.report,
        export=arguments.export,
        take_from=arguments.take_from,
        command=shlex.join(["ncl-jax", "study", *flags]),
    )


def _textures(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError(f"--config.{next(iter(overrides))}: textures are built without a config; see --help")
    if (arguments.process_index is None) != (arguments.process_count is None):
        raise UserError("--process_index and --process_count: give both or none")
    from ncl_jax.data import prepared

    prepared.import_tfds()  # says what is missing; what follows needs TensorFlow
    from ncl_jax.textures import build

    process = (arguments.process_index, arguments.process_count)
    build.run(
        arguments.dataset,
        splits=tuple(split for split in arguments.splits.split(",") if split),
        data_dir=arguments.data_dir,
        quality=arguments.quality,
        size=arguments.size,
        seed=arguments.seed,
        process=None if arguments.process_index is None else process,
        beam_options=arguments.beam_options,
    )


def _convert(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    if overrides and not arguments.config:
        raise UserError(f"--config.{next(iter(overrides))}: needs --config, the run that is to go on from INPUT")
    if arguments.config and not arguments.output:
        raise UserError("--config: needs OUTPUT, the workdir of the run that is to go on from INPUT")
    if arguments.layout and (arguments.config or not arguments.output):
        raise UserError("--layout: is of a file that is written; name one as OUTPUT, without --config")
    ncl_jax.register()
    config = _load(arguments, overrides) if arguments.config else None
    from ncl_jax.convert import command

    command.run(
        arguments.input,
        arguments.output,
        layout=arguments.layout or "torchvision",
        config=config,
        stem=arguments.stem,
        check=arguments.verify,
    )


def _preview(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    config = _load(arguments, overrides)
    from ncl_jax import preview

    preview.write(config, arguments.output)
    print(f"wrote {arguments.output}")


def _benchmark(arguments: argparse.Namespace, overrides: dict[str, str]) -> None:
    from ncl_jax import benchmark
    from ncl_jax.benchmark.result import Options

    if arguments.config is None and overrides:
        raise UserError(f"--config.{next(iter(overrides))}: changes a config; give --config=configs/NAME.py too")
    config = _load(arguments, overrides) if arguments.config is not None else None
    benchmark.run(arguments.name, Options(config, arguments.against, arguments.seconds), arguments.output)


if __name__ == "__main__":
    console()
