"""The public network in a few words: servers, and homes behind routers of some kind.

    net = Internet(uplink="delay=10ms")
    net.public("server")
    net.home("restricted", "alice")
    net.home(Nat("symmetric", timeout=5), "bob", "bobby")
    net.home("double", "carol")
    with Lab(net.topology()) as lab:
        lab.gateway("alice.gw").reboot()
        lab.flows(CORE).between(...)

All packets between two of these pass `CORE`, which counts them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .nat import Nat
from .topology import Host, Link, Topology

__all__ = ["CORE", "Home", "Internet"]

CORE = "core"
Home: TypeAlias = Literal[
    "public",
    "full-cone",
    "restricted",
    "port-restricted",
    "symmetric",
    "linux",
    "firewall",
    "udp-blocked",
    "double",
]
"""`double`: a home's masquerade behind a carrier's NAT, as RFC 6888 wants that to be."""

_CARRIER = Nat("port-restricted", hairpins=True)


class Internet:
    """Collects hosts around one public router.

    Args:
        uplink: The link of each home and server to the public router, as `linkem` has it.
        mtu: Of these links.
        alike: Whether all homes have the same private addresses, as many homes do.
    """

    def __init__(self, uplink: str = "", *, mtu: int = 1500, alike: bool = False) -> None:
        self._uplink = uplink
        self._alike = alike
        self._mtu = mtu
        self._hosts = [Host(CORE, "5.77.0.1", forwards=True)]
        self._links: list[Link] = []

    def public(
        self,
        name: str,
        *,
        more: tuple[str, ...] = (),
        uplink: str | None = None,
        plain: bool = False,
    ) -> None:
        """A host with a public address.

        Args:
            name: What it is called.
            more: Further addresses of it.
            uplink: Its link, if that is another than the others'.
            plain: Whether its link is a mere cable.
        """
        self._hosts.append(Host(name, self._public(), more=more, behind=CORE))
        spec = self._uplink if uplink is None else uplink
        self._links.append(Link(name, CORE, None if plain else spec, mtu=self._mtu))

    def home(self, kind: Home | Nat, *names: str, carrier: str = "") -> None:
        """Hosts behind a gateway, which is called `FIRST.gw`.

        Args:
            kind: Of the gateway.
            names: The hosts; for `public` only one.
            carrier: A gateway that this one is behind, instead of the public router.
        """
        gateway = f"{names[0]}.gw"
        if kind == "public":
            (name,) = names
            self.public(name)
            return
        if kind == "double":
            self.carrier(f"{names[0]}.isp")
            self.home("linux", *names, carrier=f"{names[0]}.isp")
            return
        nat = kind if isinstance(kind, Nat) else Nat(kind)
        outside = f"100.64.0.{1 + len(self._hosts)}" if carrier else self._public()
        network = f"192.168.{1 if self._alike else len(self._hosts) % 256}"
        inside = f"{network}.1" if nat.translates else ""
        self._hosts.append(
            Host(gateway, outside, forwards=True, behind=carrier or CORE, inside=inside, nat=nat)
        )
        link = Link(gateway, carrier or CORE, None if carrier else self._uplink, mtu=self._mtu)
        self._links.append(link)
        for number, name in enumerate(names, 2):
            address = f"{network}.{number}" if nat.translates else self._public()
            self._hosts.append(Host(name, address, behind=gateway))
            self._links.append(Link(name, gateway, None))

    def carrier(self, name: str, nat: Nat = _CARRIER) -> None:
        """A carrier's NAT, for homes behind it."""
        host = Host(name, self._public(), forwards=True, behind=CORE, inside="100.64.0.1", nat=nat)
        self._hosts.append(host)
        self._links.append(Link(name, CORE, self._uplink, mtu=self._mtu))

    def topology(self) -> Topology:
        """What a `Lab` builds."""
        return Topology(tuple(self._links), tuple(self._hosts))

    def _public(self) -> str:
        return f"5.77.1.{len(self._hosts)}"
