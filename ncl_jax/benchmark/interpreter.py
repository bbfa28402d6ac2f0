"""A Python process of its own, for what depends on how a process starts."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from ncl_jax.errors import UserError


def output(
    arguments: Sequence[str], *, what: str, given: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What `python ARGUMENTS`, which reads `given`, prints. Where it fails, a UserError: `what`, and its last line."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise UserError(f"{what} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout
