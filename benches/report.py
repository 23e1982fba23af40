"""The record of a run as tables for people; `report.py RECORD` prints those of an old run."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from peers import CHUNK  # noqa: E402
from plan import Result  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["GO", "OURS", "Figure", "figures", "text"]

OURS = "pilot-agent"
"""How the names of our peers begin."""
GO = "Go daemon"


@dataclass(frozen=True)
class Figure:
    """One column: a number of each peer that has it."""

    title: str
    value: Callable[[Result], float | None]
    smaller_is_better: bool = False

    def ratio(self, ours: float, other: float) -> float:
        """How many times better ours is."""
        better, worse = (other, ours) if self.smaller_is_better else (ours, other)
        return better / worse if worse else math.inf


def _best(metric: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        best = result.best(metric)
        return best and best[0]

    return value


def _cpu(mtu: int) -> Callable[[Result], float | None]:
    """What the processors did at the throughput shown."""

    def value(result: Result) -> float | None:
        best = result.best(f"mb_per_s@{mtu}")
        return best and result.median(f"cpu_s_per_gb@{mtu}/{best[1]}")

    return value


def _median(metric: str) -> Callable[[Result], float | None]:
    return lambda result: result.median(metric)


_THROUGHPUT = (
    Figure("MB/s", _best("mb_per_s@65536")),
    Figure("CPU s/GB", _cpu(65_536), smaller_is_better=True),
    Figure("MB/s, MTU 1500", _best("mb_per_s@1500")),
    Figure("CPU s/GB, MTU 1500", _cpu(1500), smaller_is_better=True),
)
_REQUESTS = (
    Figure("64 B p50, us", _median("request_p50_us"), smaller_is_better=True),
    Figure("p99, us", _median("request_p99_us"), smaller_is_better=True),
    Figure("64 in flight, 1/s", _median("requests_per_s")),
    Figure("beside bulk p50, us", _median("beside_bulk_p50_us"), smaller_is_better=True),
    Figure("beside bulk p99, us", _median("beside_bulk_p99_us"), smaller_is_better=True),
)
_BEGINNINGS = (
    Figure("new stream p50, us", _median("new_stream_p50_us"), smaller_is_better=True),
    Figure("new stream p99, us", _median("new_stream_p99_us"), smaller_is_better=True),
    Figure("new peer p50, us", _median("new_peer_p50_us"), smaller_is_better=True),
    Figure("new peer p99, us", _median("new_peer_p99_us"), smaller_is_better=True),
)
_GROUPS = {
    "One stream, one way (the best of the sizes of a write)": _THROUGHPUT,
    "Requests of 64 bytes": _REQUESTS,
    "Time to the first reply": _BEGINNINGS,
}


def figures() -> dict[str, Figure]:
    """All of them by title."""
    return {figure.title: figure for group in _GROUPS.values() for figure in group}


def text(record: dict[str, Any]) -> str:
    """Everything that a run found."""
    results = [Result.from_json(each) for each in record["results"]]
    parts = [_table(title, group, results) for title, group in _GROUPS.items()]
    parts += [
        _chunks(results),
        _ratios(results),
        _missing(results, record["plan"]["rounds"]),
        _machine(record),
    ]
    return "\n\n".join(filter(None, parts))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    )


def _label(result: Result) -> str:
    return result.name + ("" if result.encrypted else " (not encrypted)")


def _table(title: str, group: tuple[Figure, ...], results: list[Result]) -> str:
    rows = [(title, *(figure.title for figure in group))]
    for result in results:
        values = [figure.value(result) for figure in group]
        if any(value is not None for value in values):
            rows.append((_label(result), *map(_number, values)))
    return _rows(rows) if len(rows) > 1 else ""


def _chunks(results: list[Result]) -> str:
    rows: list[tuple[str, ...]] = [
        ("Ours by the size of a write", "KiB", "MB/s", "CPU s/GB", "MB/s, MTU 1500")
    ]
    for result in results:
        if result.name.startswith(OURS):
            for name in result.samples:
                metric, _, chunk = name.rpartition("/")
                if metric == "mb_per_s@65536":
                    values = (
                        result.median(name),
                        result.median(f"cpu_s_per_gb@65536/{chunk}"),
                        result.median(f"mb_per_s@1500/{chunk}"),
                    )
                    size = str(int(chunk) // 1024)
                    rows.append((result.name, size, *map(_number, values)))
    return _rows(rows) if len(rows) > 1 else ""


def _ratios(results: list[Result]) -> str:
    """Ours next to the best encrypted one of each way to drive it, and to the Go daemon."""
    rows: list[tuple[str, ...]] = []
    for driver, others in (("asyncio", ("asyncio", "blocking")), ("Rust", ("Rust",))):
        for title, figure in figures().items():
            ours = _champion(figure, (r for r in results if _is_ours(r) and r.driver == driver))
            if ours is None:
                continue
            row = [f"{title} ({driver})", _number(ours[0])]
            for other in (*others, "-")[:2]:
                rivals = (r for r in results if _is_rival(r) and r.driver == other)
                row += _rival(figure, ours, _champion(figure, rivals), named=True)
            go = (r for r in results if r.name.startswith(GO))
            rows.append((*row, *_rival(figure, ours, _champion(figure, go), named=False)))
    if not rows:
        return ""
    title = "Ours next to others (x: times better)"
    best = ("", "best encrypted", "x", "", "best blocking", "x")
    return _rows([(title, "ours", *best, "Go", "x"), *rows])


def _rival(
    figure: Figure, ours: tuple[float, str], other: tuple[float, str] | None, *, named: bool
) -> list[str]:
    name = [other[1] if other else ""] if named else []
    if other is None:
        return [*name, "-", "-"]
    return [*name, _number(other[0]), f"x{figure.ratio(ours[0], other[0]):.2f}"]


def _is_rival(result: Result) -> bool:
    return result.encrypted and not result.name.startswith((OURS, GO))


def _is_ours(result: Result) -> bool:
    return result.name.startswith(OURS)


def _champion(figure: Figure, results: Iterable[Result]) -> tuple[float, str] | None:
    found = [(value, r.name) for r in results if (value := figure.value(r)) is not None]
    if not found:
        return None
    return min(found) if figure.smaller_is_better else max(found)


def _missing(results: list[Result], rounds: int) -> str:
    lines = [f"  {result.name}: {result.missing}" for result in results if result.missing]
    lines += [
        f"  {result.name}, {step}: failed, {len(reasons)} of {rounds} times: {reasons[-1]}"
        for result in results
        for step, reasons in result.failed.items()
    ]
    return "\n".join(["Missing", *lines]) if lines else ""


def _machine(record: dict[str, Any]) -> str:
    machine, plan = record["machine"], record["plan"]
    where = (record["time"], machine["cpu"], f"{machine['cores']} cores", machine["kernel"])
    what = (f"{plan['rounds']} rounds", f"up to {plan['size'] >> 20} MiB", f"{record['seconds']} s")
    lines = [", ".join((*where, f"Python {machine['python']}")), f"plan {plan['name']}: "]
    lines[1] += ", ".join((*what, f"writes of {CHUNK >> 10} KiB where nothing else is said"))
    stolen = machine["stolen_seconds"]
    if machine["load"] > machine["cores"] / 4 or stolen > record["seconds"] / 50:
        lines.append(
            f"The machine was not idle: load {machine['load']} at the start, {stolen} s stolen. "
            "Distrust the p99 above all."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
