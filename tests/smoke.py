"""The smoke run: the path of its config, and flags for keys of it."""

from pathlib import Path

CONFIG = str(Path(__file__).parents[1] / "configs" / "smoke.py")


def flags(overrides):
    return [f"--config.{key}={value}" for key, value in overrides.items()]
