"""Throughput and latency of a program's choices, side by side, in one run.

Both ends are processes on this machine, in a network namespace with loopback only where the machine
allows one. Rounds alternate between the peers, so that what else the machine does hits all alike,
and the medians count. Peers that cannot run are listed with the reason. Compare figures of one run
only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
import report  # noqa: E402
from peers import PEERS, Peer  # noqa: E402
from peers.base import free_port  # noqa: E402
from plan import FULL, QUICK, TINY, Plan, Result, lab_for, measure  # noqa: E402
from support.netns import (  # noqa: E402
    NamespaceUnavailableError,
    enter_loopback_namespace,
    set_loopback_mtu,
)
from support.ours import Rendezvous  # noqa: E402

PLANS = {"quick": QUICK, "full": FULL, "tiny": TINY}
MTUS = (65_536, 1500)
"""Loopback's own, with which everything is measured; and a network's, for throughput."""


def chosen(options: argparse.Namespace) -> list[type[Peer]]:
    words = [word for word in (options.only or "").split(";") if word]
    return [kind for kind in PEERS if not words or any(word in kind.name for word in words)]


async def run(plan: Plan, kinds: list[type[Peer]], mtus: tuple[int, ...]) -> list[Result]:
    results = {
        kind: Result(kind.name, kind.encrypted, kind.driver, kind.version(), kind.missing())
        for kind in kinds
    }
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pb")))
        rendezvous = ""
        if any(kind.needs_rendezvous for kind in kinds):
            rendezvous = f"127.0.0.1:{free_port('127.0.0.1')}"
            stack.enter_context(Rendezvous(root, rendezvous))
        numbers = count()
        for number in range(plan.rounds):
            for mtu in mtus:
                if len(mtus) > 1:
                    set_loopback_mtu(mtu)
                for kind, result in results.items():
                    only_throughput = mtu != mtus[0]
                    if result.missing:
                        continue
                    if only_throughput and not result.best(f"mb_per_s@{mtus[0]}"):
                        continue
                    print(f"round {number + 1}, MTU {mtu}, {kind.name}", file=sys.stderr)
                    lab = lab_for(root, next(numbers), rendezvous, mtu)
                    await measure(kind, lab, plan, result, all_=not only_throughput)
    return list(results.values())


def add_samples(results: list[Result], path: Path) -> None:
    """Merge `{name: {metric: [value, ...]}}` that another program has measured."""
    for name, samples in json.loads(path.read_text(encoding="utf-8")).items():
        for result in results:
            if result.name == name:
                result.samples.update(samples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=PLANS, default="quick")
    parser.add_argument("--rounds", type=int, help="rounds; the median counts")
    parser.add_argument("--only", help="peers whose name contains one of these, with ; between")
    parser.add_argument("--merge", type=Path, action="append", default=[], help="add_samples' file")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results")
    parser.add_argument("--json", action="store_true", help="print the record, not the tables")
    options = parser.parse_args()
    plan = PLANS[options.plan]
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=options.rounds)
    record: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.describe(),
        "plan": {"name": options.plan, **vars(plan)},
    }
    mtus: tuple[int, ...] = MTUS
    try:
        enter_loopback_namespace()
    except NamespaceUnavailableError as error:
        mtus = MTUS[:1]
        print(f"on the machine's own loopback: {error}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without ending what it started
    stolen, start = machine.steal_seconds(), time.monotonic()
    results = asyncio.run(run(plan, chosen(options), mtus))
    record["seconds"] = round(time.monotonic() - start)
    record["machine"]["stolen_seconds"] = round(machine.steal_seconds() - stolen, 2)
    for path in options.merge:
        add_samples(results, path)
    record["results"] = [result.as_json() for result in results]
    text = json.dumps(record, indent=1)
    options.out.mkdir(parents=True, exist_ok=True)
    name = time.strftime("compare-%Y%m%d-%H%M%S.json", time.gmtime())
    (options.out / name).write_text(text + "\n", encoding="utf-8")
    print(text if options.json else report.text(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
