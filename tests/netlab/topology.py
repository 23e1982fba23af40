"""What a network is to look like, and which way packets go in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nat import Nat

__all__ = ["Host", "Link", "Topology"]

# A device is called after the host at its other end, and the kernel has a limit.
_LONGEST_NAME = 15 - len("to-")


@dataclass(frozen=True)
class Host:
    """A machine: a network namespace.

    Args:
        name: At most 12 characters.
        address: IPv4. By default the next of 5.77.0.0/24, which looks public and is nobody's inside
            a lab.
        forwards: Whether it passes on what is not for it.
        more: Other addresses that it has.
        behind: Its default gateway, which hides it from the rest if it translates addresses. Hosts
            behind different ones may have the same address.
        inside: A gateway's address for those behind it, if that is another one.
        nat: What it does to packets from and for those behind it.
    """

    name: str
    address: str = ""
    forwards: bool = False
    more: tuple[str, ...] = ()
    behind: str = ""
    inside: str = ""
    nat: Nat | None = None


@dataclass(frozen=True)
class Link:
    """A link between two hosts, at most one for each pair.

    Args:
        a: A host.
        b: The other one.
        spec: What it does to packets, as `linkem` has it. None is a plain cable: packets as large
            as the kernel likes, no limits, no counters, nothing to command.
        back: The same from `b` to `a`, if that differs.
        mtu: Of the devices at both ends. A `mtu` in `spec` is a black hole instead.
    """

    a: str
    b: str
    spec: str | None = ""
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
            name: host if host.address else replace(host, address=f"5.77.0.{number}")
            for number, (name, host) in enumerate(hosts.items(), 1)
        }

    def neighbours(self) -> dict[str, list[str]]:
        """For each host those it has a link with."""
        found: dict[str, list[str]] = {name: [] for name in self.all_hosts()}
        for link in self.links:
            found[link.a].append(link.b)
            found[link.b].append(link.a)
        return found

    def routes(self, source: str) -> dict[str, str]:
        """For each other host that can be reached: the neighbour through which, on a shortest way.

        Hosts that do not forward are ends, never on the way. A host behind a gateway has a default
        route instead, and knows only what is behind itself; what is behind a translating gateway,
        only that one knows.
        """
        hosts = self.all_hosts()
        neighbours = self.neighbours()
        first_steps = [
            neighbour
            for neighbour in neighbours[source]
            if not hosts[source].behind or hosts[neighbour].behind == source
        ]
        via: dict[str, str] = {}
        to_visit = deque((neighbour, neighbour) for neighbour in first_steps)
        while to_visit:
            host, first = to_visit.popleft()
            if host == source or host in via:
                continue
            via[host] = first
            if not hosts[host].forwards:
                continue
            nat = hosts[host].nat
            hides = nat is not None and nat.translates
            to_visit += [
                (neighbour, first)
                for neighbour in neighbours[host]
                if not (hides and hosts[neighbour].behind == host)
            ]
        return via
