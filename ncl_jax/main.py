"""What `ncl-jax COMMAND` does: start the processes' common runtime and dispatch. No work is done here."""

import argparse
import gc
import io
import logging
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence

import ncl_jax
from ncl_jax import command_line, progress
from ncl_jax.errors import UserError, first_line

STOPPED = 128 + signal.SIGTERM  # the exit status where SIGTERM ended a run early, as shells and schedulers know it


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ncl-jax` with these arguments; the exit status is 0, 1 after a line that says what to mend, or another one
    (130, 143) where a signal has ended a run early, with everything saved: no other command is to follow."""
    # absl and others talk a lot at start; what matters to a user is said by this package.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ncl_jax").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_, **__: progress.say(f"warning: {message}", sys.stderr)
    arguments, rest = command_line.parser().parse_known_args(argv)
    try:
        overrides = command_line.overrides(rest)
        command_line.check_names(arguments)
        return _COMMANDS[arguments.command](arguments, overrides) or 0
    except UserError as error:
        progress.say(f"ncl-jax {arguments.command}: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say(f"ncl-jax {arguments.command}: interrupted", sys.stderr)
        return 130
    except BrokenPipeError as error:  # as behind `| head`
        progress.say(f"ncl-jax {arguments.command}: {error}: nobody reads its output any more", sys.stderr)
        return 141
    except Exception as error:
        if type(error).__module__.startswith(("gcsfs", "aiohttp", "google.api_core", "google.auth", "google.cloud")):
            progress.say(f"ncl-jax {arguments.command}: a bucket failed ({first_line(error)})", sys.stderr)
            return 1
        if not _among_others():
            raise
        if type(error).__name__ == "JaxRuntimeError":  # of a collective whose other end is gone
            lost = f"lost another process of this run ({first_line(error)})"
            lost += "; start all again: they go on from the last checkpoint"
            progress.say(f"ncl-jax {arguments.command}: {lost}", sys.stderr)
        else:
            traceback.print_exc()
        return 1


def console() -> int:
    """`main` as a process. After an error it is gone at once: the threads of a save that failed would wait minutes for
    each other, and jax at its exit for the other processes of the run."""
    # Modules and traced programs are a million objects that stay: to look through all of them time and again (the third
    # number says how seldom) took a twentieth of a short run and kept its memory 4 MB of 1,160 lower. Younger ones are
    # collected as ever.
    gc.set_threshold(700, 10, 1000)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a table's lines are no reason to end on a terminal without them
        sys.stdout.reconfigure(errors="replace")
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody hears it; nor shall Python, at its exit, end with another status for that
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if status not in (0, STOPPED):
        os._exit(status)
    return status


def _among_others() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


# The commands import what they need when they run: `--help` and errors come at once.


def _load(arguments: argparse.Namespace, overrides: dict[str, str]):
    return ncl_jax.load_config(arguments.config, overrides)


def _join(arguments: argparse.Namespace) -> None:
    from ncl_jax import parallel

    parallel.initialize(arguments.coordinator, arguments.process_count, arguments.process_index)


def _pretrain(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    config = _load(arguments, overrides)
    _join(arguments)
    from ncl_jax import train

    finished = train.pretrain(config, arguments.workdir, profile=arguments.profile)
    return STOPPED if finished is None else 0


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


def _study(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    ncl_jax.register()
    from ncl_jax.study import plan

    chosen = plan.load(arguments.config, overrides)
    from ncl_jax.study import command

    flags = [f"--config={arguments.config}", f"--workdir={arguments.workdir}"]
    flags += [f"--config.{key}={value}" for key, value in overrides.items()]
    flags += [f"--only={arguments.only}"] if arguments.only else []
    stopped = command.run(
        chosen,
        arguments.workdir,
        only=tuple(name for name in arguments.only.split(",") if name),
        report=arguments.report,
        export=arguments.export,
        take_from=arguments.take_from,
        command=shlex.join(["ncl-jax", "study", *flags]),
    )
    return STOPPED if stopped else 0


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


_COMMANDS = {
    "pretrain": _pretrain,
    "evaluate": _evaluate,
    "study": _study,
    "textures": _textures,
    "convert": _convert,
    "preview": _preview,
    "benchmark": _benchmark,
}

if __name__ == "__main__":
    sys.exit(console())
