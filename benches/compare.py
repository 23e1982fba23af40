"""Throughput and latency of a Python program's choices, side by side, in one run.

One stream each, echoed by another process on the same machine: MiB/s through and back, and the
round-trip time of 64 bytes. All in a network namespace with loopback only, where the machine
allows one. Peers that cannot run are listed with the reason. Compare figures of one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from peers import PEERS, REFERENCE, Lab, Peer  # noqa: E402
from support.netns import NamespaceUnavailableError, enter_loopback_namespace  # noqa: E402
from support.ours import Rendezvous  # noqa: E402

T = TypeVar("T")
MIB = 1 << 20
PAYLOAD = bytes(64)
LIMIT = 180.0
"""Seconds that any one measurement may take."""


@dataclass
class Result:
    """What one peer did. `None` stands for "not measured"."""

    name: str
    encrypted: bool
    mib_per_s: float | None = None
    mib_per_s_all: list[float] | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    missing: str | None = None


async def within(measurement: Awaitable[T]) -> T:
    return await asyncio.wait_for(measurement, LIMIT)


async def measure(kind: type[Peer], lab: Lab, options: argparse.Namespace) -> Result:
    result = Result(kind.name, kind.encrypted, missing=kind.missing())
    if result.missing:
        return result
    peer = kind(lab)
    try:
        await within(peer.start())
        try:
            await within(peer.throughput(options.mib * MIB // 8))  # warm-up
            size = options.mib * MIB
            rates = [await within(peer.throughput(size)) for _ in range(options.rounds)]
            result.mib_per_s_all = [rate / MIB for rate in rates]
            result.mib_per_s = statistics.median(result.mib_per_s_all)
        except NotImplementedError:
            pass
        try:
            await within(peer.round_trips(options.requests // 10, PAYLOAD))  # warm-up
            p50s, p99s = [], []
            for _ in range(options.rounds):
                times = sorted(await within(peer.round_trips(options.requests, PAYLOAD)))
                p50s.append(times[len(times) // 2] * 1e6)
                p99s.append(times[len(times) * 99 // 100] * 1e6)
            result.p50_us, result.p99_us = statistics.median(p50s), statistics.median(p99s)
        except NotImplementedError:
            pass
    except Exception as error:  # noqa: BLE001  (one peer's failure must not hide the others)
        result.missing = f"failed: {type(error).__name__}: {error}".splitlines()[0]
    finally:
        await peer.stop()
    return result


def table(results: list[Result]) -> str:
    """The results as text, with ratios to the reference (above 1 is better than it)."""
    nothing = Result(REFERENCE, encrypted=True)
    reference = next((result for result in results if result.name == REFERENCE), nothing)

    def cell(value: float | None, base: float | None, *, smaller_is_better: bool) -> str:
        if value is None:
            return f"{'-':>9} {'':>7}"
        if not base:
            return f"{value:9.1f} {'':>7}"
        ratio = base / value if smaller_is_better else value / base
        return f"{value:9.1f} {f'x{ratio:.2f}':>7}"

    lines = [f"{'':32}{'MiB/s, echoed':>17}  {'64 B p50, us':>17}  {'64 B p99, us':>17}"]
    for result in results:
        if result.missing:
            lines.append(f"{result.name:32}missing: {result.missing}")
            continue
        columns = [
            cell(result.mib_per_s, reference.mib_per_s, smaller_is_better=False),
            cell(result.p50_us, reference.p50_us, smaller_is_better=True),
            cell(result.p99_us, reference.p99_us, smaller_is_better=True),
        ]
        mark = "" if result.encrypted else "  (not encrypted)"
        lines.append(f"{result.name:32}" + "  ".join(columns) + mark)
    lines.append(f"x: how many times better than {REFERENCE!r}")
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory(prefix="pb") as directory:
        root = Path(directory)
        with Rendezvous(root, "127.0.0.1:9000") as rendezvous:
            for number, kind in enumerate(PEERS):
                if options.only and options.only not in kind.name:
                    continue
                print(f"{kind.name} ...", file=sys.stderr, flush=True)
                home = root / str(number)
                home.mkdir()
                results.append(await measure(kind, Lab(home, rendezvous.address), options))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64, help="MiB through and back (default 64)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--requests", type=int, default=3000, help="round trips of 64 bytes")
    parser.add_argument("--only", help="peers whose name contains this")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results")
    options = parser.parse_args()
    try:
        enter_loopback_namespace()
    except NamespaceUnavailableError as error:
        print(f"on the machine's own loopback: {error}", file=sys.stderr)
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    results = asyncio.run(run(options))
    print(table(results))
    if load > cpus / 2:
        print(f"The machine was busy (load {load:.1f} on {cpus} CPUs): distrust the p99 above all.")
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "cpus": cpus, "load": load},
        "python": platform.python_version(),
        "mib": options.mib,
        "requests": options.requests,
        "results": [asdict(result) for result in results],
    }
    path = options.out / time.strftime("compare-%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
