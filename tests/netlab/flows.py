"""Which way packets really went: counted in a router, not asked of those who sent them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .namespaces import Namespace

__all__ = ["Flow", "Flows", "count_flows", "flows"]

# Before any translation, so that a gateway counts what those inside have sent, as they sent it.
# There are no names here, and programs that ask for one should not wait for silence.
_RULES = """
    table ip flows {
        set seen {
            type ipv4_addr . ipv4_addr . inet_proto; flags dynamic; size 65535; counter
        }
        chain count {
            type filter hook prerouting priority -350;
            iifname "lo" return
            udp dport 53 reject
            add @seen { ip saddr . ip daddr . meta l4proto }
        }
    }"""


class Flow(NamedTuple):
    """So much was seen."""

    packets: int
    bytes: int


class Flows:
    """What a router saw, by source, destination and protocol (`udp`, `tcp`, `icmp`)."""

    def __init__(self, seen: dict[tuple[str, str, str], Flow]) -> None:
        self._seen = seen

    def between(self, source: str, destination: str, protocol: str = "udp") -> Flow:
        """From one address to another."""
        return self._seen.get((source, destination, protocol), Flow(0, 0))

    def all(self) -> dict[tuple[str, str, str], Flow]:
        """Everything."""
        return dict(self._seen)

    def since(self, before: Flows) -> Flows:
        """What was added."""
        past = defaultdict(lambda: Flow(0, 0), before._seen)
        return Flows(
            {
                key: Flow(now.packets - past[key].packets, now.bytes - past[key].bytes)
                for key, now in self._seen.items()
                if now != past[key]
            }
        )


def count_flows(namespace: Namespace) -> None:
    """Begin to count in a router."""
    namespace.nft(_RULES)


def flows(namespace: Namespace) -> Flows:
    """What a router that counts has seen so far."""
    listed = json.loads(namespace.run("nft", "--json", "list", "set", "ip", "flows", "seen"))
    (seen,) = (item["set"] for item in listed["nftables"] if "set" in item)
    found = {}
    for entry in seen.get("elem", ()):
        element = entry["elem"]
        source, destination, protocol = element["val"]["concat"]
        counter = element["counter"]
        key = (str(source), str(destination), str(protocol))
        found[key] = Flow(counter["packets"], counter["bytes"])
    return Flows(found)
