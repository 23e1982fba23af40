"""Named network namespaces that say whose they are, so that somebody else can clean up."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

__all__ = ["Namespace", "sweep"]

_DIRECTORY = Path("/run/netns")
# The owner's process ID and start time: IDs are used again.
_NAME = re.compile(r"netlab\.(?P<pid>\d+)\.(?P<start>\d+)\.\d+\..*")
_numbers = itertools.count(1)
_CLONE_NEWNET = 0x4000_0000


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

    @property
    def handle(self) -> str:
        """What `ip` calls it after `netns`: its name, or a process that is in it."""
        return self.name or str(os.getpid())

    def ip(self, *commands: str, force: bool = False) -> None:
        """Run commands of `ip`: up to the first that fails, or all of them, whatever fails."""
        if not commands:
            return
        text = "\n".join(commands) + "\n"
        if force:
            self.run("sh", "-c", "ip -force -batch - 2>/dev/null || true", text=text)
        else:
            self.run("ip", "-batch", "-", text=text)

    def nft(self, rules: str) -> None:
        """Load rules for nftables, all or nothing."""
        self.run("nft", "-f", "-", text=rules)

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a program there with this on its input, and return what it prints."""
        done = subprocess.run(
            [*self.prefix, *command],
            input=text,
            text=True,
            check=True,
            timeout=10,
            stdout=subprocess.PIPE,
        )
        return done.stdout

    def sysctl(self, area: str, **values: int | str) -> None:
        """Set `net.AREA.NAME`, with `__` for a dot."""
        lines = [
            f"echo '{value}' > /proc/sys/net/{area}/{name.replace('__', '/')}"
            for name, value in values.items()
        ]
        self.run("sh", "-ec", "\n".join(lines))

    def socket(self, *kind: int) -> socket.socket:
        """A socket that belongs to it, whoever uses it."""
        made: list[socket.socket] = []

        def make() -> None:
            with self.path.open() as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns", str(self.path))
            made.append(socket.socket(*kind))

        # Only the thread moves, and it ends.
        mover = threading.Thread(target=make)
        mover.start()
        mover.join()
        return made[0]

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
