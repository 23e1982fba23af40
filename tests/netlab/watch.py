"""Which way the packets of a pair go, and since when: from counters of routers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .internet import CORE

if TYPE_CHECKING:
    from .field import Pair
    from .flows import Flows
    from .lab import Lab

__all__ = ["Watch", "Way", "outside"]

_EVERY = 0.1
# A relay in reserve, and registration, may go on; the data does not.
_MOSTLY = 0.8


@dataclass(frozen=True)
class Way:
    """How the bytes of a pair went in the end.

    Args:
        there: Of all bytes from the caller, the part that went directly.
        back: The same for the callee.
        since: Seconds from the beginning until both did, for good.
    """

    there: float
    back: float
    since: float | None

    def __str__(self) -> str:
        direct = (self.there > _MOSTLY) + (self.back > _MOSTLY)
        return ("relayed", "half direct", "direct")[direct]


def outside(lab: Lab, host: str) -> str:
    """The address by which the public router knows a host."""
    hosts = lab.topology.all_hosts()
    while hosts[host].behind != CORE:
        gateway = hosts[hosts[host].behind]
        if gateway.nat is None or not gateway.nat.translates:
            break
        host = gateway.name
    return lab.address(host)


class Watch:
    """Looks at the counters again and again, while it is entered.

    Args:
        lab: Whose.
        gateways: Where to look, beside the public router.
        relay: The address of the relay.
    """

    def __init__(self, lab: Lab, relay: str, gateways: frozenset[str] = frozenset()) -> None:
        self._lab = lab
        self._relay = relay
        self._routers = sorted({CORE, *gateways} - {""})
        self._seen: list[tuple[float, dict[str, Flows]]] = []
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._looking
        await self._look()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self._look()

    async def _look(self) -> None:
        def look() -> dict[str, Flows]:
            return {router: self._lab.flows(router) for router in self._routers}

        before = time.monotonic()
        self._seen.append((before, await asyncio.to_thread(look)))

    def way(self, pair: Pair, start: float, end: float) -> Way:
        """Of what two have sent between two moments."""
        seen = [(when, flows) for when, flows in self._seen if start <= when <= end]
        ends = (pair.caller.host, pair.callee.host)
        totals = [
            [self._bytes(flows, pair, *order) for order in (ends, ends[::-1])] for _, flows in seen
        ]
        if not totals:
            return Way(0, 0, None)
        since, shares = None, [0.0, 0.0]
        for (when, _), past in zip(seen, totals, strict=True):
            shares = [
                _share(direct - direct_past, relayed - relayed_past)
                for (direct, relayed), (direct_past, relayed_past) in zip(
                    totals[-1], past, strict=True
                )
            ]
            if min(shares) > _MOSTLY:
                since = when - start
                break
        else:
            middle = totals[len(totals) // 2]
            shares = [
                _share(direct - direct_past, relayed - relayed_past)
                for (direct, relayed), (direct_past, relayed_past) in zip(
                    totals[-1], middle, strict=True
                )
            ]
        return Way(shares[0], shares[1], since)

    def _bytes(self, flows: dict[str, Flows], pair: Pair, source: str, to: str) -> tuple[int, int]:
        """Bytes so far that went directly, and to the relay."""
        hosts = {source: outside(self._lab, source), to: outside(self._lab, to)}
        core = flows[CORE]
        if pair.shared:
            here = flows[pair.shared]
            mine, other, public = self._inside(pair, source), self._inside(pair, to), hosts[to]
            direct = here.between(mine, other).bytes + here.between(mine, public).bytes
            relayed = sum(here.between(mine, self._relay, kind).bytes for kind in ("udp", "tcp"))
            return direct, relayed
        relayed = sum(
            core.between(hosts[source], self._relay, kind).bytes for kind in ("udp", "tcp")
        )
        return core.between(hosts[source], hosts[to]).bytes, relayed

    def _inside(self, pair: Pair, host: str) -> str:
        """The address by which a shared gateway knows a host."""
        hosts = self._lab.topology.all_hosts()
        while hosts[host].behind != pair.shared:
            host = hosts[host].behind
        return self._lab.address(host)


def _share(direct: int, relayed: int) -> float:
    return direct / (direct + relayed) if direct + relayed > 0 else 0.0
