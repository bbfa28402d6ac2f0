"""What processes that tests start get: simulated devices, the rest of their environment the tests' own, and a port."""

import os
import socket


def environment(count: int) -> dict[str, str]:
    """With so many devices: of a flag given twice XLA takes the last."""
    return os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("localhost", 0))
        return any_port.getsockname()[1]
