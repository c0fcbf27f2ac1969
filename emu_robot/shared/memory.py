"""Memory of this process and machine. Values are exact on Linux; elsewhere the peak is that since the start."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Begin a new peak for `peak_bytes`."""
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most memory that this process held since `reset_peak`, or since its start."""
    with suppress(OSError, StopIteration):
        return _kilobytes(_PROCESS / "status", "VmHWM") * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine_bytes() -> tuple[int, int]:
    """Memory of the machine: all, and what programs can still get."""
    with suppress(OSError, StopIteration):
        info = Path("/proc/meminfo")
        return _kilobytes(info, "MemTotal") * 1024, _kilobytes(info, "MemAvailable") * 1024
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, total


def _kilobytes(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
