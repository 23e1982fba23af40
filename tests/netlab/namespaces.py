"""Named network namespaces that say whose they are, so that somebody else can clean up."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

__all__ = ["Namespace", "sweep"]

_DIRECTORY = Path("/run/netns")
# The owner's process ID and start time: IDs are used again.
_NAME = re.compile(r"netlab\.(?P<pid>\d+)\.(?P<start>\d+)\.\d+\..*")
_numbers = itertools.count(1)


class Namespace:
    """A network namespace: a new one with a name, or the one that this thread is in.

    Args:
        label: What its name is to end with; None for the present one.
    """

    def __init__(self, label: str | None) -> None:
        self.name: str | None = None
        self.path = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net")
        if label is not None:
            pid = os.getpid()
            self.name = f"netlab.{pid}.{_started(pid)}.{next(_numbers)}.{label}"
            self.path = _DIRECTORY / self.name
            _ip("netns", "add", self.name)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that is to run there."""
        return () if self.name is None else ("nsenter", f"--net={self.path}")

    def ip(self, *commands: str) -> None:
        """Run commands of `ip`, up to the first that fails."""
        subprocess.run(
            [*self.prefix, "ip", "-batch", "-"],
            input="\n".join(commands) + "\n",
            text=True,
            check=True,
            timeout=10,
        )

    def sysctl(self, **values: int | str) -> None:
        """Set `net.ipv4.NAME`, with `__` for a dot."""
        lines = [
            f"echo '{value}' > /proc/sys/net/ipv4/{name.replace('__', '/')}"
            for name, value in values.items()
        ]
        command = [*self.prefix, "sh", "-ec", "\n".join(lines)]
        subprocess.run(command, check=True, timeout=10)

    def remove(self) -> None:
        """End everything in it, and remove it, if it was made for this."""
        if self.name is not None:
            _remove(self.name)


def sweep() -> list[str]:
    """Remove the namespaces of owners that are dead; their names."""
    names = sorted(path.name for path in _DIRECTORY.glob("netlab.*"))
    dead = []
    for name in names:
        owner = _NAME.fullmatch(name)
        if owner is not None and _started(int(owner["pid"])) != int(owner["start"]):
            dead.append(name)
            # Another sweeper may have been faster.
            with contextlib.suppress(subprocess.CalledProcessError):
                _remove(name)
    return dead


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(
        ["ip", *arguments], check=True, timeout=10, capture_output=True, text=True
    )
    return done.stdout


def _started(pid: int) -> int:
    """When a process started, in ticks since boot; 0 if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # The name, in parentheses, may contain anything.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])
