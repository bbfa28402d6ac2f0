"""The machine's memory in bytes; 0 where the system does not tell, as on Windows."""

import os
import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")  # Linux


def total() -> int:
    return _pages("SC_PHYS_PAGES")


def available() -> int:
    """What can be had: free, or holding files that can be read again."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else _pages("SC_AVPHYS_PAGES")


def _pages(name: str) -> int:
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") if name in getattr(os, "sysconf_names", {}) else 0
