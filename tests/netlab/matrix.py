"""Who reaches whom, how soon, and which way: every pair of NAT kinds.

    python -m netlab.matrix [--short] [--peers ours] [--json FILE] [--write PAGE]

Each pair begins cold: both are new to everybody, at new ports. The caller asks something by the
other's name, then sends for some seconds, and what a public router counted meanwhile says which
way that went. `mixed` is a node of ours that calls a Go daemon, `mixed-back` the reverse.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from support.ours import Rendezvous

from .field import KINDS, RENDEZVOUS, Field, Pair, can_be_direct
from .lab import Lab
from .peers import GoPeer, OurPeer, Peer, TroubleError
from .requirements import missing
from .tables import as_tables, between_marks
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .internet import Home

__all__ = ["Outcome", "Plan", "matrix"]

# Pairs of a round begin one after the other, so that they do not wait for each other's CPU time.
_STAGGER = 0.05


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        kinds: Of NAT.
        short: Each pair of kinds in one order only.
        seconds: How long each caller sends.
        throughput: How long it then sends as fast as it goes; 0 for not at all.
        callers: `ours` or `go`.
        callees: The same.
        uplink: The link of each home.
        shared: Whether there are pairs behind one NAT as well.
        alike: Whether all homes have the same private addresses.
    """

    kinds: tuple[Home, ...] = KINDS
    short: bool = False
    seconds: float = 6.0
    throughput: float = 0.0
    callers: str = "ours"
    callees: str = "ours"
    uplink: str = "delay=10ms"
    shared: bool = True
    alike: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a pair.

    Args:
        caller: The kind of what it was behind.
        callee: The same.
        possible: Whether a direct way exists for those who do not guess ports.
        first: Seconds until the first answer.
        way: `direct`, `half direct` or `relayed`.
        shares: What part of the bytes went directly in the end, from the caller and back.
        direct_after: Seconds from the first question until all went directly, both ways.
        lost: Bytes that did not arrive, or were wrong.
        throughput: Megabytes a second.
        trouble: Why there is no more.
    """

    caller: str
    callee: str
    possible: bool
    first: float | None = None
    way: str = ""
    shares: tuple[float, float] = (0.0, 0.0)
    direct_after: float | None = None
    lost: int = 0
    throughput: float | None = None
    trouble: str = ""


async def matrix(plan: Plan) -> list[Outcome]:
    """Measure every pair."""
    field = Field(plan.kinds, uplink=plan.uplink, shared=plan.shared, alike=plan.alike)
    with Lab(field.topology()) as lab, tempfile.TemporaryDirectory(prefix="matrix") as home:
        field.verify(lab)
        directory = Path(home)
        address = field.rendezvous(lab)
        with Rendezvous(directory, address, prefix=lab.prefix(RENDEZVOUS)):
            return await _Run(plan, field, lab, directory).all_rounds()


class _Run:
    def __init__(self, plan: Plan, field: Field, lab: Lab, directory: Path) -> None:
        self._plan = plan
        self._field = field
        self._lab = lab
        kinds = {"ours": OurPeer, "go": GoPeer}
        caller, callee = kinds[plan.callers], kinds[plan.callees]
        address = field.rendezvous(lab)
        callers = {place.host for place in field.callers}
        callers |= {pair.caller.host for pair in field.sharing}
        self._peers: dict[str, Peer] = {
            place.host: (caller if place.host in callers else callee)(
                lab, place.host, directory, address
            )
            for place in field.places()
        }
        self._unable: dict[str, str] = {}

    async def all_rounds(self) -> list[Outcome]:
        try:
            outcomes = []
            for pairs in self._field.rounds(short=self._plan.short):
                outcomes += await self._round(pairs)
            return outcomes
        finally:
            await asyncio.gather(*(peer.close() for peer in self._peers.values()))

    async def _round(self, pairs: list[Pair]) -> list[Outcome]:
        self._unable = {}
        hosts = [place.host for pair in pairs for place in (pair.caller, pair.callee)]
        await asyncio.gather(*(self._renew(host) for host in hosts))
        relay = self._lab.address(RENDEZVOUS)
        gateways = frozenset(pair.shared for pair in pairs)
        async with Watch(self._lab, relay, gateways) as watch:
            found = await asyncio.gather(
                *(self._pair(pair, number * _STAGGER) for number, pair in enumerate(pairs))
            )
        outcomes = []
        for pair, (outcome, start, end) in zip(pairs, found, strict=True):
            way = None if outcome.trouble else watch.way(pair, start, end)
            if way is not None:
                shares = (round(way.there, 2), round(way.back, 2))
                outcomes.append(
                    replace(outcome, way=str(way), shares=shares, direct_after=way.since)
                )
            else:
                outcomes.append(outcome)
            print(_line(outcomes[-1]), file=sys.stderr, flush=True)
        return outcomes

    async def _renew(self, host: str) -> None:
        try:
            await self._peers[host].renew()
        except (RuntimeError, asyncio.TimeoutError) as error:
            self._unable[host] = f"does not start: {error}"[:200]

    async def _pair(self, pair: Pair, after: float) -> tuple[Outcome, float, float]:
        caller, callee = self._peers[pair.caller.host], self._peers[pair.callee.host]
        kinds = (pair.caller.kind, pair.callee.kind, can_be_direct(pair))
        first, throughput, lost, trouble = None, None, 0, ""
        await asyncio.sleep(after)
        start = end = time.monotonic()
        try:
            for place in (pair.caller, pair.callee):
                if reason := self._unable.get(place.host):
                    raise TroubleError(reason)  # noqa: TRY301
            first = await caller.first_contact(callee)
            lost = await caller.keep_busy(callee, self._plan.seconds)
            end = time.monotonic()
            if self._plan.throughput:
                throughput = await caller.throughput(callee, self._plan.throughput)
        except TroubleError as error:
            trouble = str(error)
        outcome = Outcome(*kinds, first=first, lost=lost, throughput=throughput, trouble=trouble)
        return outcome, start, end


def _line(outcome: Outcome) -> str:
    first = "no answer" if outcome.first is None else f"{outcome.first * 1000:.0f} ms"
    since = "" if outcome.direct_after is None else f" after {outcome.direct_after:.1f} s"
    lost = f", {outcome.lost} bytes lost" if outcome.lost else ""
    ought = ""
    if outcome.possible != (outcome.way == "direct"):
        ought = f" (! shares {outcome.shares[0]}, {outcome.shares[1]})"
    pair = f"{outcome.caller} -> {outcome.callee}"
    return f"{pair}: {first}, {outcome.way}{since}{lost}{ought} {outcome.trouble.strip()[:160]}"


_PEERS = {
    "ours": ("ours", "ours"),
    "go": ("go", "go"),
    "mixed": ("ours", "go"),
    "mixed-back": ("go", "ours"),
}


def main(arguments: Iterable[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="each pair in one order, 4 s")
    parser.add_argument("--peers", choices=_PEERS, action="append", help="default: ours")
    parser.add_argument("--only", help="kinds, separated by commas")
    parser.add_argument("--seconds", type=float, help="how long a caller sends; default 4 or 6")
    parser.add_argument("--throughput", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into it")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if reason := missing():
        print(f"no matrix: {reason}", file=sys.stderr)
        return 2
    kinds = tuple(kind for kind in KINDS if not options.only or kind in options.only.split(","))
    outcomes: dict[str, list[Outcome]] = {}
    for peers in options.peers or ["ours"]:
        callers, callees = _PEERS[peers]
        plan = Plan(
            kinds,
            short=options.short,
            seconds=options.seconds or (4.0 if options.short else 6.0),
            throughput=options.throughput,
            callers=callers,
            callees=callees,
        )
        print(f"--- {peers}", file=sys.stderr)
        outcomes[peers] = asyncio.run(matrix(plan))
    text = as_tables(outcomes)
    print(text)
    if options.json:
        figures = {peers: [asdict(one) for one in found] for peers, found in outcomes.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(between_marks(page, "matrix", text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
