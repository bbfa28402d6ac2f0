"""Simulated devices of processes that tests start; the rest of their environment is the tests' own."""

import os


def environment(count: int) -> dict[str, str]:
    """With so many devices: of a flag given twice XLA takes the last."""
    return os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}
