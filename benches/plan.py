"""What is measured of each peer, and how much of it."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peers import Lab, Peer, PeerError, Session

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FULL", "QUICK", "TINY", "Plan", "Result", "measure"]

MIB = 1 << 20
PAYLOAD = 64
DEPTH = 64
_START = "start"


@dataclass(frozen=True)
class Plan:
    """How much of everything. Slow peers get less: as much as takes `seconds`."""

    size: int
    seconds: float
    round_trips: int
    in_flight: int
    new_streams: int
    new_peers: int
    beside: int
    rounds: int


QUICK = Plan(256 * MIB, 1.5, 1000, 20_000, 50, 5, 200, rounds=3)
FULL = Plan(1024 * MIB, 6.0, 5000, 100_000, 200, 20, 1000, rounds=5)
TINY = Plan(MIB, 0.2, 20, 100, 2, 1, 10, rounds=1)


@dataclass
class Result:
    """What one peer did: each round adds a value to each of the samples that it can give."""

    name: str
    encrypted: bool
    driver: str
    version: str = ""
    missing: str | None = None
    failed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What it could not do, and why. It is asked again, but not for ever."""
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def gives_up(self, step: str) -> bool:
        """Whether it has failed at this too often to be asked again."""
        return len(self.failed.get(step, ())) > 3

    def median(self, metric: str) -> float | None:
        """The median over the rounds."""
        values = self.samples.get(metric)
        return statistics.median(values) if values else None

    def best(self, metric: str) -> tuple[float, str] | None:
        """The highest median of `metric/...` and what stands in place of the dots."""
        found = [
            (value, name.rpartition("/")[2])
            for name in self.samples
            if name.startswith(f"{metric}/") and (value := self.median(name)) is not None
        ]
        return max(found, default=None)

    def as_json(self) -> dict[str, Any]:
        """For the record, with the medians for those who only read."""
        rounded = {name: [_round(v) for v in values] for name, values in self.samples.items()}
        medians = {name: _round(statistics.median(values)) for name, values in rounded.items()}
        return {**vars(self), "samples": rounded, "medians": medians}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Result:
        """The opposite of `as_json`."""
        return cls(**{name: value for name, value in record.items() if name != "medians"})


def _round(value: float) -> float:
    return round(value, max(0, 4 - math.ceil(math.log10(abs(value) + 1e-9))))


async def measure(kind: type[Peer], lab: Lab, plan: Plan, result: Result, *, all_: bool) -> None:
    """One round: the throughput at the lab's MTU, and with `all_` everything else."""
    run = _Round(kind, plan, lab, result)
    steps = {f"throughput at MTU {lab.mtu}": run.throughput}
    if all_:
        steps |= {"requests": run.requests, "new streams": run.new_streams}
        steps |= {"new peers": run.new_peers, "requests beside bulk": run.beside_bulk}
    pending = {step: work for step, work in steps.items() if not result.gives_up(step)}
    again: set[str] = set()
    while pending and not result.gives_up(_START):
        step = _START
        try:
            async with Session(kind, lab) as session:
                for step, work in list(pending.items()):
                    await work(session)
                    del pending[step]
        except PeerError as error:  # this session may hang: go on in another
            result.failed[step].append(str(error))
            if step in again:
                pending.pop(step, None)
            again.add(step)


class _Round:
    def __init__(self, kind: type[Peer], plan: Plan, lab: Lab, result: Result) -> None:
        self.kind = kind
        self.plan = plan
        self.lab = lab
        self.result = result

    def add(self, metric: str, value: float) -> None:
        self.result.samples[metric].append(value)

    def add_times(self, metric: str, times: list[float]) -> None:
        times = sorted(times)
        self.add(f"{metric}_p50_us", times[len(times) // 2] * 1e6)
        self.add(f"{metric}_p99_us", times[len(times) * 99 // 100] * 1e6)

    async def throughput(self, session: Session) -> None:
        for chunk in self.kind.chunks:
            await self._throughput(session, chunk)

    async def _throughput(self, session: Session, chunk: int) -> None:
        largest = min(self.plan.size, self.kind.largest)
        size = min(8 * MIB, largest)
        try:
            for _ in range(2):  # the second warms up what grows with the rate
                seconds = await session.client.call("send", size, chunk)
                rate = size / seconds
                size = max(int(min(largest, rate * self.plan.seconds) / 4), MIB)
        except NotImplementedError:
            return
        size = max(int(min(largest, rate * self.plan.seconds)) // MIB, 1) * MIB
        before = session.cpu()
        seconds = await session.client.call("send", size, chunk)
        cpu = session.cpu() - before
        self.add(f"mb_per_s@{self.lab.mtu}/{chunk}", size / seconds / 1e6)
        self.add(f"cpu_s_per_gb@{self.lab.mtu}/{chunk}", cpu / size * 1e9)

    async def requests(self, session: Session) -> None:
        plan, call = self.plan, session.client.call
        try:
            await call("round_trips", max(plan.round_trips // 10, 1), PAYLOAD)
            self.add_times("request", await call("round_trips", plan.round_trips, PAYLOAD))
        except NotImplementedError:
            return
        probe = max(plan.in_flight // 20, DEPTH)
        seconds = await call("in_flight", probe, DEPTH, PAYLOAD)
        count = int(min(plan.in_flight, max(probe / seconds * plan.seconds, probe)))
        self.add("requests_per_s", count / await call("in_flight", count, DEPTH, PAYLOAD))

    async def new_streams(self, session: Session) -> None:
        await self._beginning(session, "new_stream", "new_streams", self.plan.new_streams)

    async def new_peers(self, session: Session) -> None:
        await self._beginning(session, "new_peer", "new_peers", self.plan.new_peers)

    async def _beginning(self, session: Session, metric: str, method: str, count: int) -> None:
        try:
            await session.client.call(method, 1, PAYLOAD)
            self.add_times(metric, await session.client.call(method, count, PAYLOAD))
        except NotImplementedError:
            return

    async def beside_bulk(self, session: Session) -> None:
        try:
            times = await session.client.call("beside_bulk", self.plan.beside, PAYLOAD)
        except NotImplementedError:
            return
        self.add_times("beside_bulk", times)


def lab_for(root: Path, number: int, rendezvous: str, mtu: int) -> Lab:
    """A directory of its own for each session; short, for a socket path has little room."""
    directory = root / str(number)
    directory.mkdir(parents=True)
    return Lab(directory, rendezvous, mtu=mtu)
