"""What a result depends on besides the code: the machine, and how busy it was."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe", "steal_seconds"]


def describe() -> dict[str, Any]:
    """The processor, the system, and the load at this moment."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "tcp_congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "rmem_max": _read("/proc/sys/net/core/rmem_max"),
    }


def steal_seconds() -> float:
    """Seconds that other guests of the same host have taken from this machine since its start."""
    fields = _read("/proc/stat").splitlines()[:1]
    ticks = int(fields[0].split()[8]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
