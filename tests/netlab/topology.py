"""What a network is to look like, and which way packets go in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["Host", "Link", "Topology"]

# A device is called after the host at its other end, and the kernel has a limit.
_LONGEST_NAME = 15 - len("to-")


@dataclass(frozen=True)
class Host:
    """A machine: a network namespace.

    Args:
        name: At most 12 characters.
        address: IPv4, on its loopback; all its links use it. By default the next of 5.77.0.0/24,
            which looks public and is nobody's inside a lab.
        forwards: Whether it passes on what is not for it.
    """

    name: str
    address: str = ""
    forwards: bool = False


@dataclass(frozen=True)
class Link:
    """A link between two hosts, at most one for each pair.

    Args:
        a: A host.
        b: The other one.
        spec: What it does to packets, as `linkem` has it.
        back: The same from `b` to `a`, if that differs.
        mtu: Of the devices at both ends. A `mtu` in `spec` is a black hole instead.
    """

    a: str
    b: str
    spec: str = ""
    back: str | None = None
    mtu: int = 1500


@dataclass(frozen=True)
class Topology:
    """Hosts and the links between them."""

    links: tuple[Link, ...]
    hosts: tuple[Host, ...] = field(default=())
    """Those that are more than a name in a link."""

    @classmethod
    def line(cls, a: str, b: str, spec: str = "", *, mtu: int = 1500) -> Topology:
        """Two hosts and a link."""
        return cls((Link(a, b, spec, mtu=mtu),))

    def all_hosts(self) -> dict[str, Host]:
        """Every host by its name, with an address.

        Raises:
            ValueError: A name is too long, or two links join the same hosts.
        """
        hosts = {host.name: host for host in self.hosts}
        for link in self.links:
            for name in (link.a, link.b):
                hosts.setdefault(name, Host(name))
        pairs = {frozenset((link.a, link.b)) for link in self.links}
        if len(pairs) < len(self.links) or any(len(pair) == 1 for pair in pairs):
            raise ValueError("one link for each pair of hosts")
        if any(len(name) > _LONGEST_NAME for name in hosts):
            message = f"a host's name has at most {_LONGEST_NAME} characters"
            raise ValueError(message)
        return {
            name: host if host.address else Host(name, f"5.77.0.{number}", host.forwards)
            for number, (name, host) in enumerate(hosts.items(), 1)
        }

    def routes(self, source: str) -> dict[str, str]:
        """For each other host that can be reached: the neighbour through which, on a shortest way.

        Hosts that do not forward are ends, never on the way.
        """
        hosts = self.all_hosts()
        neighbours: dict[str, list[str]] = {name: [] for name in hosts}
        for link in self.links:
            neighbours[link.a].append(link.b)
            neighbours[link.b].append(link.a)
        via: dict[str, str] = {}
        to_visit = deque((neighbour, neighbour) for neighbour in neighbours[source])
        while to_visit:
            host, first = to_visit.popleft()
            if host == source or host in via:
                continue
            via[host] = first
            if hosts[host].forwards:
                to_visit += [(neighbour, first) for neighbour in neighbours[host]]
        return via
