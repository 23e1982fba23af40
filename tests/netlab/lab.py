"""A network that runs, and everything in it."""

from __future__ import annotations

import atexit
import contextlib
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from .namespaces import Namespace, sweep
from .requirements import missing
from .wire import Wire

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from .topology import Topology

__all__ = ["Lab"]


class Lab:
    """Namespaces, links and programs that exist while this is entered.

    They go at its end, at the end of this process also when it is asked to end (SIGTERM), and if
    it is killed, at the start of the next lab of anybody.

    Args:
        topology: What it looks like.
        here: A host that is not a namespace of its own, but the one that this process is in.
    """

    def __init__(self, topology: Topology, *, here: str | None = None) -> None:
        self.topology = topology
        self._here = here
        self._hosts = topology.all_hosts()
        self._undo = contextlib.ExitStack()
        self._namespaces: dict[str, Namespace] = {}
        self._wires: dict[frozenset[str], Wire] = {}

    def __enter__(self) -> Lab:
        if reason := missing():
            raise RuntimeError(reason)
        sweep()
        _end_orderly_when_asked()
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all programs and take the network away. Harmless when that is done."""
        atexit.unregister(self.close)
        self._undo.close()

    def address(self, host: str) -> str:
        """The IPv4 address of a host."""
        return self._hosts[host].address

    def prefix(self, host: str) -> tuple[str, ...]:
        """What to put before a command that is to run at a host."""
        return self._namespaces[host].prefix

    def wire(self, a: str, b: str) -> Wire:
        """The link between two hosts."""
        return self._wires[frozenset((a, b))]

    def sysctl(self, host: str, **values: int | str) -> None:
        """Set `net.ipv4.NAME` of a host, with `__` for a dot."""
        self._namespaces[host].sysctl(**values)

    def popen(self, host: str, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program at a host. It is killed at the end of the lab, if need be."""
        process = subprocess.Popen([*self.prefix(host), *command], **options)
        self._undo.callback(_end, process)
        return process

    def run(self, host: str, *command: str, timeout: float = 30.0) -> str:
        """Run a program at a host and return what it prints.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        done = subprocess.run(
            [*self.prefix(host), *command],
            check=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def _build(self) -> None:
        for name, host in self._hosts.items():
            namespace = Namespace(None if name == self._here else name)
            self._namespaces[name] = namespace
            self._undo.callback(namespace.remove)
            on_loopback = f"{host.address}/32 dev lo"
            if name == self._here:
                namespace.ip(f"addr add {on_loopback}")
                self._undo.callback(namespace.ip, f"addr del {on_loopback}")
            else:
                namespace.ip("link set lo up", f"addr add {on_loopback}")
                # Ways there and back may differ, and every "too big" counts, not one a second.
                namespace.sysctl(
                    conf__all__rp_filter=0, icmp_ratelimit=0, ip_forward=int(host.forwards)
                )
        for link in self.topology.links:
            wire = Wire(link, self._namespaces[link.a], self._namespaces[link.b])
            self._wires[frozenset((link.a, link.b))] = wire
            self._undo.callback(wire.stop)
        for name, namespace in self._namespaces.items():
            source = self.address(name)
            routes = self.topology.routes(name).items()
            namespace.ip(
                *(
                    f"route add {self.address(to)}/32 dev to-{via} src {source}"
                    for to, via in routes
                )
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def _end_orderly_when_asked() -> None:
    """Let SIGTERM end this process as `sys.exit` does, unless somebody else handles it."""
    is_ours = threading.current_thread() is threading.main_thread()
    if is_ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (a handler's signature)
    sys.exit(128 + number)
