"""A network that runs, and everything in it."""

from __future__ import annotations

import atexit
import contextlib
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .flows import count_flows, flows
from .gateway import Gateway
from .namespaces import Namespace, sweep
from .requirements import missing
from .topology import Link, Topology
from .wire import Wire, lay_cable

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from .flows import Flows
    from .topology import Host

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
        self._gateways: dict[str, Gateway] = {}
        self._routes: dict[str, set[str]] = {}
        # Several threads may change it at once.
        self._changing = threading.Lock()

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

    def addresses(self, host: str) -> tuple[str, ...]:
        """All its addresses, except those for hosts behind it."""
        return (self.address(host), *self._hosts[host].more)

    def prefix(self, host: str) -> tuple[str, ...]:
        """What to put before a command that is to run at a host."""
        return self._namespaces[host].prefix

    def wire(self, a: str, b: str) -> Wire:
        """The link between two hosts."""
        return self._wires[frozenset((a, b))]

    def sysctl(self, host: str, **values: int | str) -> None:
        """Set `net.ipv4.NAME` of a host, with `__` for a dot."""
        self._namespaces[host].sysctl("ipv4", **values)

    def gateway(self, host: str) -> Gateway:
        """What translates or filters at a host that has a `nat`."""
        return self._gateways[host]

    def flows(self, host: str) -> Flows:
        """What a host that forwards has seen so far, in both directions."""
        return flows(self._namespaces[host])

    def readdress(self, host: str, address: str) -> None:
        """Give a host another address, as DHCP or a provider may. A NAT forgets its mappings."""
        with self._changing:
            old, self._hosts[host] = self._hosts[host], replace(self._hosts[host], address=address)
            device = self._device(old)
            if device is None:
                message = f"{host} is nobody's host: its address is not one of a device"
                raise ValueError(message)
            gateway = self._gateways.get(host)
            if gateway is not None:
                gateway.stop()
            self._namespaces[host].ip(
                f"addr add {self._with_prefix(self._hosts[host])} dev {device}",
                f"addr del {self._with_prefix(old)} dev {device}",
            )
            self._route()
            if gateway is not None:
                gateway.reboot()

    def move(self, host: str, gateway: str, address: str) -> None:
        """Unplug a host that hangs on a plain cable, and plug it in behind another gateway."""
        with self._changing:
            old = self._hosts[host]
            links = [link for link in self.topology.links if {link.a, link.b} != {host, old.behind}]
            self._namespaces[host].ip(f"link del to-{old.behind}")
            link = Link(host, gateway, None)
            self._hosts[host] = moved = replace(old, address=address, behind=gateway)
            self.topology = Topology((*links, link), tuple(self._hosts.values()))
            self._join(link)
            self._namespaces[host].ip(
                f"addr add {self._with_prefix(moved)} dev {self._device(moved)}"
            )
            self._route()

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
            if name != self._here:
                namespace.ip("link set lo up")
                namespace.sysctl("ipv4", **_quiet(host))
            # The present namespace is as it was, afterwards.
            for address in self._on_loopback(host):
                namespace.ip(f"addr add {address}/32 dev lo")
                if name == self._here:
                    self._undo.callback(namespace.ip, f"addr del {address}/32 dev lo")
        for link in self.topology.links:
            self._join(link)
        for name, host in self._hosts.items():
            if device := self._device(host):
                self._namespaces[name].ip(f"addr add {self._with_prefix(host)} dev {device}")
        self._route()
        for name, host in self._hosts.items():
            if host.nat is not None:
                gateway = Gateway(self._namespaces[name], host.nat, self._outside(name))
                self._gateways[name] = gateway
                self._undo.callback(gateway.close)
            if host.forwards and name != self._here:
                count_flows(self._namespaces[name])

    def _join(self, link: Link) -> None:
        a, b = self._namespaces[link.a], self._namespaces[link.b]
        if link.spec is None:
            lay_cable(link, a, b)
            return
        wire = Wire(link, a, b)
        self._wires[frozenset((link.a, link.b))] = wire
        self._undo.callback(wire.stop)

    def _outside(self, gateway: str) -> str:
        """The device toward the rest of the world."""
        (neighbour,) = (
            name
            for name in self.topology.neighbours()[gateway]
            if self._hosts[name].behind != gateway
        )
        return f"to-{neighbour}"

    def _device(self, host: Host) -> str | None:
        """The device that has its address; None if that is on loopback, as on a router's."""
        if host.name == self._here:
            return None
        if host.nat is not None:
            return self._outside(host.name)
        return f"to-{host.behind}" if host.behind else None

    def _on_loopback(self, host: Host) -> list[str]:
        inside = (host.inside,) if host.inside else ()
        return [*host.more, *inside, *(() if self._device(host) else (host.address,))]

    def _with_prefix(self, host: Host) -> str:
        """Those behind one NAT are one network."""
        gateway = self._hosts[host.behind] if host.behind else None
        hidden = gateway is not None and gateway.nat is not None and gateway.nat.translates
        return f"{host.address}/{24 if hidden else 32}"

    def _route(self) -> None:
        """Give every host the routes that the topology asks for, and no others."""
        for name, namespace in self._namespaces.items():
            host = self._hosts[name]
            source = "" if self._device(host) else f" src {host.address}"
            wanted = {
                f"{address}/32 dev to-{via}{source}"
                for to, via in self.topology.routes(name).items()
                for address in (self.address(to), *self._hosts[to].more)
            }
            if host.behind:
                gateway = self._hosts[host.behind]
                inside = gateway.inside or gateway.address
                wanted.add(f"default via {inside} dev to-{host.behind} onlink")
            present = self._routes.get(name, set())
            # Those through a device that is gone went with it.
            namespace.ip(*(f"route del {route}" for route in present - wanted), force=True)
            namespace.ip(*(f"route add {route}" for route in sorted(wanted - present)))
            self._routes[name] = wanted


def _quiet(host: Host) -> dict[str, int]:
    """Ways there and back may differ, and every "too big" counts, not one a second."""
    return {
        "conf__all__rp_filter": 0,
        "conf__default__rp_filter": 0,
        "conf__all__send_redirects": 0,
        "conf__default__send_redirects": 0,
        "conf__all__promote_secondaries": 1,
        "icmp_ratelimit": 0,
        "ip_forward": int(host.forwards),
    }


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
