"""What happens to those who are connected: NATs reboot, addresses change, links and servers fail.

    python -m netlab.events [--full] [--write PAGE]

Each event has a pair of nodes of its own behind NATs, and they all run at once, in one lab. In most
a stream of a constant rate is on its way, and what its receiver noted says how long it stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from support.ours import AgentError, AgentProcess, Rendezvous

from .internet import CORE, Internet
from .lab import Lab
from .nat import Nat
from .requirements import missing
from .tables import between_marks
from .watch import outside

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["EVENTS", "LAST", "Figures", "Times", "run_events"]

RATE = 400e3
ROUND_TRIP = 0.040
_UPLINK = "delay=10ms"
_GOOD_ENOUGH = 0.8


@dataclass(frozen=True)
class Times:
    """How long things last, in seconds.

    Args:
        before: From the start of a stream to the event.
        after: From the event to the end of the stream.
        mapping: How long the NATs of the idle pair remember it.
        idle: How long that pair says nothing.
        without: How long the rendezvous is away.
    """

    before: float = 3.0
    after: float = 8.0
    mapping: int = 5
    idle: float = 15.0
    without: float = 10.0


FULL = Times(after=20.0, mapping=20, idle=600.0, without=60.0)


@dataclass(frozen=True)
class Figures:
    """What was measured of an event; what does not apply is None.

    Args:
        stood_still: Seconds without a byte.
        recovered: Seconds from the event, or its end, until the stream had 80 % of its rate again.
        answered: Seconds until the answer to a question asked after the event.
        intact: Whether every byte arrived.
        rate: Packets a second of one node.
        trouble: Why there is nothing else.
    """

    stood_still: float | None = None
    recovered: float | None = None
    answered: float | None = None
    intact: bool | None = None
    rate: float | None = None
    trouble: str = ""


class Scene:
    """The lab and the nodes in it.

    Args:
        lab: Runs.
        directory: For the nodes' files.
        server: The rendezvous.
        address: Its `host:port`.
        times: How long things last.
    """

    def __init__(
        self, lab: Lab, directory: Path, server: Rendezvous, address: str, times: Times
    ) -> None:
        self.lab = lab
        self.times = times
        self.server = server
        self._address = address
        self._directory = directory

    async def agent(self, host: str, name: str = "") -> AgentProcess:
        """A node that runs at a host."""
        name = name or host
        home = self._directory / name
        prefix = self.lab.prefix(host)
        return await AgentProcess(home, self._address, name, prefix=prefix).start()

    @contextlib.asynccontextmanager
    async def pair(self, name: str) -> Any:
        """Two nodes that have talked: `NAMEa` and `NAMEb`."""
        a, b = await asyncio.gather(self.agent(f"{name}a"), self.agent(f"{name}b"))
        try:
            await a.call(request="are you there?", to=b.hostname, timeout=15)
            yield a, b
        finally:
            await asyncio.gather(a.kill(), b.kill())

    async def stream_through(
        self, name: str, happens: Callable[[], Coroutine[Any, Any, None]]
    ) -> Figures:
        """A stream from `NAMEa` to `NAMEb` while something happens to it."""
        times = self.times
        async with self.pair(name) as (a, b):
            streaming = asyncio.create_task(
                a.call(
                    limit=times.before + times.after + 40,
                    stream=times.before + times.after,
                    to=b.hostname,
                    rate=RATE,
                )
            )
            await asyncio.sleep(times.before)
            began = time.monotonic()
            await happens()
            over = time.monotonic()
            with contextlib.suppress(AgentError, asyncio.TimeoutError):
                await streaming
            samples = (await b.call(samples=True))["samples"]
            done = streaming.done() and not streaming.exception()
            intact = bool(done and streaming.result()["intact"])
            return replace(figures_of(samples, began, over), intact=intact)

    async def ask_after(
        self, name: str, happens: Callable[[], Coroutine[Any, Any, None]]
    ) -> Figures:
        """A question from `NAMEa` to `NAMEb`, after something happened while both were silent."""
        async with self.pair(name) as (a, b):
            await asyncio.sleep(self.times.before)
            await happens()
            answer = await a.call(request="still there?", to=b.hostname, timeout=70, limit=80)
            return Figures(answered=answer["seconds"])


def figures_of(samples: list[tuple[float, int]], began: float, over: float) -> Figures:
    """How long a stream stood still, and when it was well again.

    Args:
        samples: When, and how many bytes there were by then.
        began: When something happened to it.
        over: When that was over.
    """
    times = [when for when, _ in samples]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times) if later > began]
    recovered = None
    for when, count in samples:
        if when < over:
            continue
        within = [total for later, total in samples if when <= later <= when + 0.5]
        if len(within) > 1 and within[-1] - count >= _GOOD_ENOUGH * RATE * 0.5:
            recovered = when - over
            break
    return Figures(stood_still=max(gaps, default=None), recovered=recovered)


# Each has a name, which its hosts' names begin with, and what these are behind.
_CONE = Nat("port-restricted")
_NEW_PORTS = Nat("port-restricted", keeps_ports=False)


async def reboot_with_same_ports(scene: Scene) -> Figures:
    """The caller's NAT reboots, and gives the same ports as before."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.gateway("e0a.gw").reboot)

    return await scene.stream_through("e0", happens)


async def reboot_with_new_ports(scene: Scene) -> Figures:
    """The caller's NAT reboots, and gives new ports."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.gateway("e1a.gw").load, _NEW_PORTS)

    return await scene.stream_through("e1", happens)


async def reboot_of_the_receiver(scene: Scene) -> Figures:
    """The receiver's NAT reboots, and gives new ports."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.gateway("e2b.gw").load, _NEW_PORTS)

    return await scene.stream_through("e2", happens)


async def new_public_address(scene: Scene) -> Figures:
    """The sender's NAT gets another public address."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.readdress, "e3a.gw", "5.77.3.3")

    return await scene.stream_through("e3", happens)


async def new_public_address_of_the_receiver(scene: Scene) -> Figures:
    """The receiver's NAT gets another public address."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.readdress, "e4b.gw", "5.77.3.4")

    return await scene.stream_through("e4", happens)


async def new_private_address(scene: Scene) -> Figures:
    """The sender itself gets another address, as by DHCP."""

    async def happens() -> None:
        network = scene.lab.address("e5a").rpartition(".")[0]
        await asyncio.to_thread(scene.lab.readdress, "e5a", f"{network}.77")

    return await scene.stream_through("e5", happens)


async def another_network(scene: Scene) -> Figures:
    """The sender moves to another home, as from Wi-Fi to mobile."""

    async def happens() -> None:
        network = scene.lab.address("e6c").rpartition(".")[0]
        await asyncio.to_thread(scene.lab.move, "e6a", "e6c.gw", f"{network}.77")

    return await scene.stream_through("e6", happens)


async def another_network_of_the_receiver(scene: Scene) -> Figures:
    """The receiver moves to another home."""

    async def happens() -> None:
        network = scene.lab.address("e7c").rpartition(".")[0]
        await asyncio.to_thread(scene.lab.move, "e7b", "e7c.gw", f"{network}.77")

    return await scene.stream_through("e7", happens)


async def cut_of_two_seconds(scene: Scene) -> Figures:
    """The sender's link is cut for two seconds."""

    async def happens() -> None:
        wire = scene.lab.wire("e8a.gw", CORE)
        await asyncio.to_thread(wire.both, "down")
        await asyncio.sleep(2)
        await asyncio.to_thread(wire.both, "up")

    return await scene.stream_through("e8", happens)


async def mapping_forgotten(scene: Scene) -> Figures:
    """Both are silent for longer than their NATs remember."""

    async def happens() -> None:
        await asyncio.sleep(scene.times.idle)

    return await scene.ask_after("e9", happens)


async def reboot_unnoticed(scene: Scene) -> Figures:
    """The NAT of a silent node reboots, with new ports; the other one asks it something."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.gateway("f0b.gw").load, _NEW_PORTS)

    return await scene.ask_after("f0", happens)


async def new_public_address_unnoticed(scene: Scene) -> Figures:
    """The NAT of a silent node gets another address; the other one asks it something."""

    async def happens() -> None:
        await asyncio.to_thread(scene.lab.readdress, "f1b.gw", "5.77.3.5")

    return await scene.ask_after("f1", happens)


async def nothing_to_say(scene: Scene) -> Figures:
    """Two who have talked say nothing for a while: what one of them sends meanwhile."""
    async with scene.pair("f2") as (a, _):
        await asyncio.sleep(scene.times.before)
        here = outside(scene.lab, a.hostname)
        before, start = await asyncio.to_thread(scene.lab.flows, CORE), time.monotonic()
        await asyncio.sleep(10)
        after = await asyncio.to_thread(scene.lab.flows, CORE)
        packets = sum(
            flow.packets
            for (source, _, protocol), flow in after.since(before).all().items()
            if source == here and protocol == "udp"
        )
        return Figures(rate=packets / (time.monotonic() - start))


async def rendezvous_away(scene: Scene) -> Figures:
    """The rendezvous is killed, comes back after a while, and has forgotten everybody."""
    async with scene.pair("f3") as (a, b):
        streaming = asyncio.create_task(
            a.call(limit=200, stream=scene.times.without, to=b.hostname, rate=RATE)
        )
        scene.server.kill()
        began = time.monotonic()
        await asyncio.sleep(scene.times.without)
        streamed = await streaming
        samples = (await b.call(samples=True))["samples"]
        for stored in scene.server.home.glob("*.redb"):
            stored.unlink()
        await asyncio.to_thread(scene.server.start)
        back = time.monotonic()
        newcomer = await scene.agent("f3c")
        try:
            while True:
                try:
                    await newcomer.call(request="who is new?", to=b.hostname, timeout=2)
                    await newcomer.call(request="who is new?", to=a.hostname, timeout=2)
                    break
                except AgentError:
                    if time.monotonic() - back > 60:
                        raise
        finally:
            await newcomer.kill()
        answered = time.monotonic() - back
        stood_still = figures_of(samples, began, began).stood_still
        return Figures(stood_still=stood_still, answered=answered, intact=streamed["intact"])


EVENTS = (
    reboot_with_same_ports,
    reboot_with_new_ports,
    reboot_of_the_receiver,
    new_public_address,
    new_public_address_of_the_receiver,
    new_private_address,
    another_network,
    another_network_of_the_receiver,
    cut_of_two_seconds,
    mapping_forgotten,
    reboot_unnoticed,
    new_public_address_unnoticed,
    nothing_to_say,
)
LAST = rendezvous_away
"""Not at once with the others, for it happens to all."""


async def run_events(times: Times) -> dict[str, Figures]:
    """All of them; by their names."""
    net = Internet(_UPLINK)
    net.public("rendezvous", plain=True)
    for number in range(len(EVENTS) + 1):
        name = f"{'ef'[number // 10]}{number % 10}"
        nat = replace(_CONE, timeout=times.mapping) if name == "e9" else _CONE
        net.home(nat, f"{name}a")
        net.home(nat, f"{name}b")
    for name in ("e6c", "e7c", "f3c"):
        net.home("linux", name)
    with (
        Lab(net.topology()) as lab,
        tempfile.TemporaryDirectory(prefix="events") as home,
        Rendezvous(
            Path(home),
            address := f"{lab.address('rendezvous')}:9000",
            prefix=lab.prefix("rendezvous"),
        ) as server,
    ):
        scene = Scene(lab, Path(home), server, address, times)

        async def one(event: Callable[[Scene], Coroutine[Any, Any, Figures]]) -> Figures:
            try:
                return await event(scene)
            except (AgentError, asyncio.TimeoutError, RuntimeError) as error:
                return Figures(trouble=f"{type(error).__name__}: {error}"[:200])

        found = await asyncio.gather(*(one(event) for event in EVENTS))
        names = [event.__name__ for event in (*EVENTS, LAST)]
        return dict(zip(names, [*found, await one(LAST)], strict=True))


def _row(event: Callable[[Scene], object], figures: Figures) -> str:
    told = (event.__doc__ or "").rstrip(".")
    cells = [
        _seconds(figures.stood_still),
        _seconds(figures.recovered),
        _seconds(figures.answered),
        "" if figures.intact is None else ("yes" if figures.intact else "**no**"),
        "" if figures.rate is None else f"{figures.rate:.2f} packets/s",
    ]
    trouble = f" ({figures.trouble})" if figures.trouble else ""
    return f"| {told}{trouble} | " + " | ".join(cells) + " |"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="10 minutes idle, and other long waits")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into it")
    options = parser.parse_args()
    if reason := missing():
        print(f"no events: {reason}", file=sys.stderr)
        return 2
    found = asyncio.run(run_events(FULL if options.full else Times()))
    heads = ("event", "stood still", "80 % of its rate after", "answered after", "intact", "sent")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += [_row(event, found[event.__name__]) for event in (*EVENTS, LAST)]
    text = "\n".join(lines)
    print(text)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(between_marks(page, "events", text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
