"""Kinds of NAT and firewall, as rules for nftables.

Words of RFC 4787. Mapping: does an inside socket have one outside port for all peers (independent)
or one for each (dependent)? Filtering: may anybody send to that port (independent), or those
addresses only that it sent to (address), or those sockets (port)?

Linux remembers flows, not mappings, so the cones have memory of their own: sets that packets fill
on their way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["KINDS", "Behaviour", "Kind", "Nat"]

Kind: TypeAlias = Literal[
    "full-cone",
    "restricted",
    "port-restricted",
    "symmetric",
    "linux",
    "firewall",
    "udp-blocked",
]
KINDS: tuple[Kind, ...] = (
    "full-cone",
    "restricted",
    "port-restricted",
    "symmetric",
    "linux",
    "firewall",
    "udp-blocked",
)
_CONES = ("full-cone", "restricted", "port-restricted")


@dataclass(frozen=True)
class Behaviour:
    """What RFC 5780's tests find, from behind it; a NAT that lets no UDP through has neither."""

    mapping: Literal["none", "independent", "port"] | None
    """"none": the address outside is the one inside."""
    filtering: Literal["independent", "address", "port"] | None
    hairpins: bool = False


@dataclass(frozen=True)
class Nat:
    """What a gateway does.

    Args:
        kind: `linux` is an ordinary masquerade: independent mapping, as long as no two hosts inside
            use the same port. `firewall` translates nothing. `udp-blocked` lets TCP out.
        hairpins: Whether those inside reach each other by their outside addresses (cones only).
        timeout: Seconds until an idle UDP mapping is forgotten.
        keeps_ports: Whether the outside port is the inside one where possible. `symmetric` never.
        only_to: Addresses that `udp-blocked` lets TCP to, as `ADDRESS:PORT`; all if empty.
    """

    kind: Kind
    hairpins: bool = False
    timeout: int = 120
    keeps_ports: bool = True
    only_to: tuple[str, ...] = ()

    @property
    def translates(self) -> bool:
        """Whether those behind it have addresses that nobody else knows."""
        return self.kind != "firewall"

    def behaviour(self) -> Behaviour:
        """What a probe behind it must find."""
        if self.kind == "udp-blocked":
            return Behaviour(None, None)
        if self.kind == "firewall":
            return Behaviour("none", "port")
        mapping: Literal["independent", "port"] = (
            "independent" if self.kind in _CONES or self.keeps_ports else "port"
        )
        if self.kind == "symmetric":
            mapping = "port"
        filtering: dict[str, Literal["independent", "address"]] = {
            "full-cone": "independent",
            "restricted": "address",
        }
        return Behaviour(mapping, filtering.get(self.kind, "port"), self.hairpins)

    def sysctls(self) -> dict[str, int]:
        """Of `net.netfilter`."""
        return {
            "nf_conntrack_udp_timeout": self.timeout,
            "nf_conntrack_udp_timeout_stream": self.timeout,
        }

    def rules(self, wan: str) -> str:
        """The table for nftables; loading it forgets the mappings of the cones.

        Args:
            wan: The outside device.
        """
        return f"""
            table ip gateway
            delete table ip gateway
            table ip gateway {{
                {self._translation(wan)}
                {self._filter(wan)}
            }}"""

    def _filter(self, wan: str) -> str:
        """What may pass, and that the gateway itself stays silent.

        A gateway that answered a punch, or only took it for itself, would remember the flow, and
        then the inside host's packet to that peer could not keep its port.
        """
        blocked = ""
        if self.kind == "udp-blocked":
            sockets = [text.rpartition(":") for text in self.only_to]
            blocked = "\n".join(
                [
                    f'oifname "{wan}" meta l4proto udp drop',
                    *(f"ip daddr {ip} tcp dport {port} accept" for ip, _, port in sockets),
                    f'oifname "{wan}" drop' if self.only_to else "",
                ]
            )
        return f"""
            chain pass {{
                type filter hook forward priority 0;
                {blocked}
                iifname != "{wan}" accept
                ct state established,related accept
                ct status dnat accept
                drop
            }}
            chain self {{
                type filter hook input priority 0;
                ct state established,related accept
                meta l4proto udp drop
                iifname "{wan}" meta l4proto tcp drop
            }}"""

    def _translation(self, wan: str) -> str:
        if self.kind == "firewall":
            return ""
        if self.kind not in _CONES:
            random = "" if self.keeps_ports and self.kind != "symmetric" else "fully-random"
            return f"""
                chain out_nat {{
                    type nat hook postrouting priority srcnat;
                    oifname "{wan}" meta l4proto udp masquerade {random}
                    oifname "{wan}" masquerade
                }}"""
        lasts = f"flags dynamic,timeout; timeout {self.timeout}s; size 65535;"
        permitted = {
            "restricted": ("inet_service . ipv4_addr", "udp dport . ip saddr", "ip daddr"),
            "port-restricted": (
                "inet_service . ipv4_addr . inet_service",
                "udp dport . ip saddr . udp sport",
                "ip daddr . udp dport",
            ),
        }
        allowed = may_enter = permit = ""
        if self.kind in permitted:
            key, of_incoming, of_outgoing = permitted[self.kind]
            allowed = f"set allowed {{ type {key}; {lasts} }}"
            may_enter = f"{of_incoming} @allowed"
            permit = f"meta l4proto udp update @allowed {{ udp sport . {of_outgoing} }}"
        new_port = "masquerade" if self.keeps_ports else "masquerade to :1024-65535 fully-random"
        turn_in = turn_out = ""
        if self.hairpins:
            turn_in = (
                f'iifname != "{wan}" meta l4proto udp fib daddr type local '
                "dnat ip to udp dport map @inward"
            )
            turn_out = (
                f'oifname != "{wan}" meta l4proto udp ct status dnat '
                "snat ip to ip saddr . udp sport map @outward"
            )
        return f"""
            map outward {{
                type ipv4_addr . inet_service : ipv4_addr . inet_service; {lasts}
            }}
            map inward {{ type inet_service : ipv4_addr . inet_service; {lasts} }}
            set used {{ type inet_service; {lasts} }}
            {allowed}
            chain in_nat {{
                type nat hook prerouting priority dstnat;
                iifname "{wan}" meta l4proto udp {may_enter} dnat ip to udp dport map @inward
                {turn_in}
            }}
            chain out_nat {{
                type nat hook postrouting priority srcnat;
                {turn_out}
                oifname "{wan}" meta l4proto udp snat ip to ip saddr . udp sport map @outward
                oifname "{wan}" udp sport @used masquerade to :1024-65535 fully-random
                oifname "{wan}" meta l4proto udp {new_port}
                oifname "{wan}" masquerade
            }}
            chain remember {{
                # After the translation: the header has the outside address and port.
                type filter hook postrouting priority 110;
                oifname != "{wan}" return
                {_remember("original")}
                {_remember("reply")}
                meta l4proto udp update @used {{ udp sport }}
                {permit}
            }}"""


def _remember(direction: str) -> str:
    flow = f"meta l4proto udp ct direction {direction}"
    inside = f"ct {direction} ip saddr . ct {direction} proto-src"
    return f"""
                {flow} update @outward {{ {inside} : ip saddr . udp sport }}
                {flow} update @inward {{ udp sport : {inside} }}"""
