"""The network of a matrix: two hosts of every kind around one rendezvous, and some that share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .internet import Internet
from .nat import Behaviour, Nat
from .nat_probe import Prober

if TYPE_CHECKING:
    from .internet import Home
    from .lab import Lab
    from .topology import Topology

__all__ = ["KINDS", "RENDEZVOUS", "Field", "Pair", "Place", "can_be_direct"]

KINDS: tuple[Home, ...] = (
    "public",
    "full-cone",
    "restricted",
    "port-restricted",
    "symmetric",
    "linux",
    "firewall",
    "double",
    "udp-blocked",
)
RENDEZVOUS = "rendezvous"
PORT = 9000
_PROBE = "probe"
_EASY = ("public", "full-cone", "restricted")


@dataclass(frozen=True)
class Place:
    """A host, the kind of what it is behind, and where packets of both are counted if it shares."""

    host: str
    kind: str


@dataclass(frozen=True)
class Pair:
    """Who calls whom.

    Args:
        caller: One.
        callee: The other.
        shared: The gateway that both are behind; empty if there is none.
    """

    caller: Place
    callee: Place
    shared: str = ""


def can_be_direct(pair: Pair) -> bool:
    """Whether there is a way without relay for those who do not guess ports."""
    kinds = {pair.caller.kind, pair.callee.kind}
    if "udp-blocked" in kinds:
        return False
    if "symmetric" in kinds:
        other = (kinds - {"symmetric"}) or {"symmetric"}
        return other <= set(_EASY)
    return True


class Field:
    """What stands where.

    Args:
        kinds: Of NAT.
        uplink: The link of each home to the public router.
        shared: Whether there are pairs behind one NAT as well.
        alike: Whether all homes have the same private addresses.
    """

    def __init__(
        self,
        kinds: tuple[Home, ...] = KINDS,
        *,
        uplink: str = "delay=10ms",
        shared: bool = True,
        alike: bool = False,
    ) -> None:
        self._net = Internet(uplink, alike=alike)
        self._net.public(RENDEZVOUS, plain=True)
        self._net.public(_PROBE, more=("5.77.2.1",), plain=True)
        self._behaviours: dict[str, Behaviour] = {}
        self.callers = [self._place(f"a{number}", kind) for number, kind in enumerate(kinds)]
        self.callees = [self._place(f"b{number}", kind) for number, kind in enumerate(kinds)]
        self.sharing: list[Pair] = []
        if shared:
            self._share()

    def _place(self, host: str, kind: Home) -> Place:
        self._net.home(kind, host)
        if kind == "public":
            self._behaviours[host] = Behaviour("none", "independent")
        elif kind == "double":
            self._behaviours[host] = Behaviour("independent", "port")
        else:
            self._behaviours[host] = Nat(kind).behaviour()
        return Place(host, kind)

    def _share(self) -> None:
        plain, turning = Nat("linux"), Nat("port-restricted", hairpins=True)
        for nat, names, kind in (
            (plain, ("s0", "s1"), "same"),
            (turning, ("h0", "h1"), "same, hairpin"),
        ):
            self._net.home(nat, *names)
            one, other = (Place(name, kind) for name in names)
            self._behaviours |= dict.fromkeys(names, nat.behaviour())
            self.sharing += [Pair(one, other, f"{names[0]}.gw")]
        self._net.carrier("isp")
        self._net.home("linux", "i0", carrier="isp")
        self._net.home("linux", "i1", carrier="isp")
        self._behaviours |= dict.fromkeys(("i0", "i1"), Behaviour("independent", "port"))
        self.sharing += [Pair(Place("i0", "same carrier"), Place("i1", "same carrier"), "isp")]

    def topology(self) -> Topology:
        """What a `Lab` builds."""
        return self._net.topology()

    def places(self) -> list[Place]:
        """Everybody."""
        shared = [place for pair in self.sharing for place in (pair.caller, pair.callee)]
        return [*self.callers, *self.callees, *shared]

    def rounds(self, *, short: bool = False) -> list[list[Pair]]:
        """Every ordered pair of kinds, in rounds where nobody is in two pairs.

        Args:
            short: Each pair of kinds in one order only.
        """
        count = len(self.callers)
        rounds = [
            [
                Pair(caller, self.callees[(number + shift) % count])
                for number, caller in enumerate(self.callers)
            ]
            for shift in range(count // 2 + 1 if short else count)
        ]
        rounds[0] += self.sharing
        if not short:
            rounds[1 % count] += [
                Pair(pair.callee, pair.caller, pair.shared) for pair in self.sharing
            ]
        return rounds

    def verify(self, lab: Lab) -> None:
        """Raise an error unless every NAT behaves as its name says."""
        found = Prober(lab, _PROBE).behaviours(*self._behaviours)
        wrong = {host: kind for host, kind in found.items() if kind != self._behaviours[host]}
        if wrong:
            message = f"these NATs behave in other ways than they should: {wrong}"
            raise RuntimeError(message)

    def rendezvous(self, lab: Lab) -> str:
        """Its `host:port`."""
        return f"{lab.address(RENDEZVOUS)}:{PORT}"
