"""The record of a run over links as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from links_plan import BESIDE, PARALLEL, REQUESTS, SIZE, SMALL, STREAMS, Outcome, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["merged", "text"]

_NAME, _CELL = 26, 17


def merged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Several records as one; the later ones count where both have a figure."""
    found = {}
    for record in records:
        for outcome in record["outcomes"]:
            found[outcome["kind"], outcome["sender"], outcome["scene"]] = outcome
    return {**records[-1], "outcomes": list(found.values())}


def text(record: dict[str, Any]) -> str:
    """All that is worth a look."""
    outcomes = [Outcome(**outcome) for outcome in record["outcomes"]]

    def table(title: str, kind: str, scenes: tuple[Scene, ...], cell: _Cell) -> Iterable[str]:
        rows = [outcome for outcome in outcomes if outcome.kind == kind]
        if rows:
            yield from ("", title, *_table(rows, [scene.name for scene in scenes], cell))

    lines = [_ceiling(record["ceiling"])]
    lines += table("One stream: MB/s once settled (of the link)", "stream", STREAMS, _rate)
    lines += table("The same through the relay", "relayed stream", STREAMS, _rate)
    title = (
        f"{PARALLEL} requests of {SIZE >> 10} KiB at once, 20 ms, 100 Mbit/s or 1 Gbit/s (1G): "
        "seconds for all (p99/p50)"
    )
    lines += table(title, "requests", REQUESTS, _requests)
    title = f"Requests of {SMALL} B, ms alone > beside a stream: p50, p99"
    lines += table(title, "beside", BESIDE, _beside)
    lines += _doubts(outcomes)
    return "\n".join(lines)


if TYPE_CHECKING:
    _Cell = Callable[[Outcome], str]


def _table(rows: list[Outcome], scenes: list[str], cell: _Cell) -> Iterable[str]:
    scenes = [scene for scene in scenes if any(row.scene == scene for row in rows)]
    yield " " * _NAME + "".join(f"{scene:>{_CELL}}" for scene in scenes)
    notes = []
    for sender in dict.fromkeys(row.sender for row in rows):
        cells = []
        for scene in scenes:
            found = [row for row in rows if (row.sender, row.scene) == (sender, scene)]
            cells += [cell(row) for row in found[:1]] or ["-"]
            notes += [f"{sender}, {scene}: {row.missing}" for row in found if row.missing]
        yield f"{sender:{_NAME}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
    yield from notes


def _rate(outcome: Outcome) -> str:
    rate, percent = outcome.median("mb_per_s"), outcome.median("percent")
    return "-" if rate is None or percent is None else f"{rate:.2f} ({percent:3.0f} %)"


def _requests(outcome: Outcome) -> str:
    seconds, spread = outcome.median("all_s"), outcome.median("p99_by_p50")
    return "-" if seconds is None or spread is None else f"{seconds:.2f} ({spread:.2f})"


def _beside(outcome: Outcome) -> str:
    def pair(name: str) -> str:
        alone, beside = (outcome.median(f"{when}_{name}_ms") for when in ("alone", "beside"))
        return "-" if alone is None or beside is None else f"{alone:.0f}>{beside:.0f}"

    return f"{pair('p50')}, {pair('p99')}"


def _ceiling(figures: list[dict[str, float]]) -> str:
    parts = [
        f"{figure['packets_per_s'] / 1000:.0f} thousand packets/s of {figure['udp_payload']:.0f} B"
        f" ({figure['mb_per_s']:.0f} MB/s)"
        for figure in figures
    ]
    return "The emulator's own ceiling: " + ", ".join(parts)


def _doubts(outcomes: list[Outcome]) -> Iterable[str]:
    """Where the emulator, not the sender, may have made the figure."""
    for outcome in outcomes:
        unread = sum(link["unread"] + link["refused"] for link in outcome.links)
        late = max((link["late_us_mean"] for link in outcome.links), default=0)
        name = f"{outcome.kind}, {outcome.scene}, {outcome.sender}"
        if unread:
            yield f"distrust {name}: the emulator lost {unread} packets"
        if late > 1000:
            yield f"distrust {name}: packets were {late} us late on average"
