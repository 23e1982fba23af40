"""Two places that reach the same rendezvous and not each other, so that only its relay helps.

    here 5.77.1.2 -- 5.77.1.1 middle 5.77.2.1 -- 5.77.2.2 far

Each is a network namespace; the middle one has both links and forwards nothing, as two firewalls
that let nothing unasked in would. Needs root and iproute2.
"""

from __future__ import annotations

import ctypes
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Islands"]

_CLONE_NEWNET = 0x4000_0000


class Islands:
    """The links exist while this is entered; the kernel removes them with the namespaces."""

    def __init__(self) -> None:
        self._holders: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Islands:
        middle, far = self._namespace(), self._namespace()
        self._link(None, "5.77.1.2", middle, "5.77.1.1")
        self._link(far, "5.77.2.2", middle, "5.77.2.1")
        _run(_inside(None), "ip", "route", "add", "5.77.2.0/24", "via", "5.77.1.1")
        _run(_inside(far), "ip", "route", "add", "5.77.1.0/24", "via", "5.77.2.1")
        self.in_middle = _inside(middle)
        self.in_far = _inside(far)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def _namespace(self) -> int:
        """A namespace that lives as long as its process; the process's id."""
        libc = ctypes.CDLL(None)
        holder = subprocess.Popen(
            ["sleep", "infinity"],
            preexec_fn=lambda: libc.unshare(_CLONE_NEWNET),  # noqa: PLW1509  (one call, no locks)
        )
        self._holders.append(holder)
        _run(_inside(holder.pid), "ip", "link", "set", "lo", "up")
        return holder.pid

    def _link(self, left: int | None, address: str, right: int, gateway: str) -> None:
        name = f"v{len(self._holders)}{left or 0}"
        _run(_inside(left), "ip", "link", "add", name, "type", "veth", "peer", "name", name,
             "netns", str(right))  # fmt: skip
        for place, text in ((left, address), (right, gateway)):
            _run(_inside(place), "ip", "addr", "add", f"{text}/24", "dev", name)
            _run(_inside(place), "ip", "link", "set", name, "up")


def _inside(pid: int | None) -> tuple[str, ...]:
    """What to put before a command that is to run there."""
    return () if pid is None else ("nsenter", "--target", str(pid), "--net")


def _run(prefix: tuple[str, ...], *command: str) -> None:
    subprocess.run([*prefix, *command], check=True, timeout=10)
