"""Streams and requests over links that are slow, long and lossy, next to what others make of them.

Both ends are processes in network namespaces of their own, joined by `linkem`, the project's link
emulator. The same losses meet everybody: they follow from a seed. Needs root. No figure is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import links_report  # noqa: E402
import machine  # noqa: E402
from links_plan import (  # noqa: E402
    BESIDE,
    COUNT,
    NEIGHBOURS,
    PARALLEL,
    RELAYED,
    REQUESTERS,
    REQUESTS,
    SENDERS,
    SIZE,
    SMALL,
    STREAMS,
    Outcome,
    Scene,
    Sender,
)
from netlab import Lab, Link, Topology, missing  # noqa: E402
from netlab.requirements import linkem  # noqa: E402
from peers import Lab as Place  # noqa: E402
from peers import PeerError, Process  # noqa: E402
from support.netns import enter_loopback_namespace  # noqa: E402
from support.ours import Rendezvous  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MTU = 1500
PIECE = 64 << 10
CLIENT, SERVER, RELAY = "client", "server", "relay"
_numbers = count(1)


def topology(scene: Scene, *, relayed: bool, seed: int) -> Topology:
    """Two hosts and a link; or a relay between them, and half of the delay on each side of it."""
    if not relayed:
        spec = f"{scene.spec(seed=seed)},loss={scene.loss}"
        return Topology((Link(CLIENT, SERVER, spec, mtu=MTU),))
    half = scene.spec(share=2, seed=seed)
    first = Link(CLIENT, RELAY, half, mtu=MTU)
    return Topology((first, Link(RELAY, SERVER, f"{half},loss={scene.loss}", mtu=MTU)))


class Run:
    """One sender on one link; `async with` gives the process that measures."""

    def __init__(
        self, root: Path, scene: Scene, sender: Sender, *, relayed: bool, seed: int
    ) -> None:
        self.sender = sender
        # The rendezvous is asked from here whether it is ready.
        here = RELAY if relayed else SERVER
        self.lab = Lab(topology(scene, relayed=relayed, seed=seed), here=here)
        self.directory = root / str(next(_numbers))
        self._rendezvous: Rendezvous | None = None
        self._processes: list[Process] = []

    async def __aenter__(self) -> Process:
        self.directory.mkdir()
        self.lab.__enter__()
        try:
            for host in (CLIENT, SERVER):
                # Windows of the longest link here; and nothing remembered of the last connection.
                wide = "4096 131072 67108864"
                self.lab.sysctl(host, tcp_wmem=wide, tcp_rmem=wide, tcp_no_metrics_save=1)
            address = ""
            if self.sender.peer.needs_rendezvous:
                here = RELAY if RELAY in self.lab.topology.all_hosts() else SERVER
                address = f"{self.lab.address(here)}:9000"
                self._rendezvous = Rendezvous(self.directory, address, listen="0.0.0.0:9000")
                self._rendezvous.start()
            server, client = self._process(SERVER, address), self._process(CLIENT, address)
            await client.connect(await server.serve())
        except BaseException:
            await self.__aexit__()
            raise
        return client

    def _process(self, host: str, rendezvous: str) -> Process:
        place = Place(
            self.directory,
            rendezvous,
            host=self.lab.address(host),
            mtu=MTU,
            congestion=self.sender.congestion,
        )
        process = Process(self.sender.peer, place, self.lab.prefix(host))
        self._processes.append(process)
        return process

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            await process.stop()
        if self._rendezvous is not None:
            self._rendezvous.kill()
        self.lab.close()

    def counters(self) -> Iterator[dict[str, Any]]:
        """What each link counted, each way."""
        for link in self.lab.topology.links:
            wire = self.lab.wire(link.a, link.b)
            for toward in (link.a, link.b):
                yield {"toward": toward, **asdict(wire.counters(toward))}


async def measure(root: Path, scene: Scene, sender: Sender, outcome: Outcome, seed: int) -> None:
    """One round of one outcome."""
    run = Run(root, scene, sender, relayed=outcome.kind == "relayed stream", seed=seed)
    try:
        async with run as client:
            if outcome.kind == "beside":
                alone = await client.call("round_trips", COUNT, SMALL)
                beside = await client.call("beside_bulk", COUNT, SMALL)
                outcome.add_beside(alone, beside)
            elif outcome.kind == "requests":
                outcome.add_fetch(await client.call("fetch", PARALLEL, SIZE))
            else:
                times = await client.call("flow", scene.seconds, PIECE)
                outcome.add_flow(scene, times, PIECE)
            outcome.links += run.counters()
    except NotImplementedError:
        outcome.missing = "it has no such thing"
    except (PeerError, RuntimeError) as error:
        outcome.missing = f"failed: {error}".splitlines()[0]


def chosen(options: argparse.Namespace) -> Iterator[tuple[Outcome, Scene, Sender]]:
    words = [word for word in (options.only or "").split(";") if word]
    for kind, scenes, senders in (
        ("stream", STREAMS, SENDERS),
        ("relayed stream", STREAMS, RELAYED),
        ("requests", REQUESTS, REQUESTERS),
        ("beside", BESIDE, NEIGHBOURS),
    ):
        for scene in scenes:
            for sender in senders:
                if (
                    kind in (options.kind or kind).split(",")
                    and (options.scene or scene.name) == scene.name
                    and (not words or any(_means(word, sender, senders) for word in words))
                ):
                    outcome = Outcome(kind, sender.name, scene.name, sender.missing())
                    yield outcome, scene.shortened(options.seconds), sender


def _means(word: str, sender: Sender, senders: Iterable[Sender]) -> bool:
    """A whole name, or else a part of several."""
    names = {each.name for each in senders}
    return word == sender.name if word in names else word in sender.name


async def run_all(options: argparse.Namespace) -> list[Outcome]:
    todo = list(chosen(options))
    with tempfile.TemporaryDirectory(prefix="pl") as directory:
        for number in range(options.rounds):
            for outcome, scene, sender in todo:
                if outcome.missing:
                    continue
                print(f"{outcome.kind}, {scene.name}, {sender.name}", file=sys.stderr)
                await measure(Path(directory), scene, sender, outcome, seed=number + 1)
    return [outcome for outcome, _, _ in todo]


def ceiling() -> list[dict[str, float]]:
    """What the emulator carries when nothing limits it."""
    program = linkem()
    assert program is not None, "checked"
    done = subprocess.run([program, "ceiling"], check=True, capture_output=True, timeout=30)
    figures: list[dict[str, float]] = json.loads(done.stdout)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = "stream, relayed stream, requests, beside"
    parser.add_argument("--kind", help=f"of: {kinds}; separated by ','")
    parser.add_argument("--scene", help="only the one of this name")
    parser.add_argument("--only", help="senders by name, or a part of it, separated by ';'")
    parser.add_argument("--seconds", type=float, help="watch streams no longer than this")
    parser.add_argument("--rounds", type=int, default=1, help="with a seed each; the median counts")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results")
    parser.add_argument("--show", type=Path, nargs="+", help="print tables of records, run nothing")
    options = parser.parse_args()
    if options.show:
        records = [json.loads(path.read_text(encoding="utf-8")) for path in options.show]
        print(links_report.text(links_report.merged(records)))
        return 0
    if reason := missing():
        print(f"no bad links here: {reason}", file=sys.stderr)
        return 1
    enter_loopback_namespace()
    record: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.describe(),
        "ceiling": ceiling(),
    }
    stolen = machine.steal_seconds()
    outcomes = asyncio.run(run_all(options))
    record["machine"]["stolen_seconds"] = round(machine.steal_seconds() - stolen, 2)
    record["outcomes"] = [asdict(outcome) for outcome in outcomes]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / time.strftime("links-%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(links_report.text(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
