"""A matrix's outcomes as tables for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .matrix import Outcome

__all__ = ["as_tables", "between_marks"]

_TITLES = {
    "ours": "Our nodes",
    "go": "Go daemons, release 1.18.0",
    "mixed": "Our node calls a Go daemon",
    "mixed-back": "A Go daemon calls our node",
}


def as_tables(outcomes: dict[str, list[Outcome]]) -> str:
    """A table for each sort of peers, callers from above to below, and a line of sums."""
    return "\n\n".join(_table(_TITLES[peers], found) for peers, found in outcomes.items())


def _table(title: str, outcomes: list[Outcome]) -> str:
    pairs = {(one.caller, one.callee): one for one in outcomes if not one.caller.startswith("same")}
    kinds = list(dict.fromkeys(caller for caller, _ in pairs))
    lines = [
        f"**{title}** (rows call columns)",
        "",
        "| | " + " | ".join(kinds) + " |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    for caller in kinds:
        cells = [_cell(pairs.get((caller, callee))) for callee in kinds]
        lines.append(f"| **{caller}** | " + " | ".join(cells) + " |")
    shared = [one for one in outcomes if one.caller.startswith("same")]
    lines += ["", *(f"{one.caller}: {_cell(one)}  " for one in shared), "", _sums(outcomes)]
    return "\n".join(lines)


def _cell(one: Outcome | None) -> str:
    if one is None:
        return ""
    if one.first is None:
        return "no"
    first = f"{one.first * 1000:.0f} ms"
    if one.trouble:
        return f"{first}, cut"
    lost = f", {one.lost} B lost" if one.lost else ""
    rate = "" if one.throughput is None else f", {one.throughput:.1f} MB/s"
    way = one.way if one.direct_after is None else f"direct {one.direct_after:.1f} s"
    return f"{first}, {way}{lost}{rate}"


def _sums(outcomes: list[Outcome]) -> str:
    answered = [one.first for one in outcomes if one.first is not None]
    possible = [one for one in outcomes if one.possible]
    direct = [one.direct_after for one in possible if one.direct_after is not None]
    beyond = [one for one in outcomes if not one.possible and one.direct_after is not None]
    return (
        f"{len(answered)} of {len(outcomes)} pairs connect; the slowest first answer took "
        f"{max(answered, default=0) * 1000:.0f} ms, the median {_median(answered) * 1000:.0f} ms. "
        f"{len(direct)} of {len(possible)} pairs that can be direct were, after "
        f"{max(direct, default=0):.1f} s at most; {len(beyond)} more by guessing ports. "
        f"{sum(one.lost for one in outcomes)} bytes were lost."
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def between_marks(page: str, name: str, text: str) -> str:
    """The page with this text between its marks `NAME:begin` and `NAME:end`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        message = f"no marks {begin} and {end}"
        raise ValueError(message)
    return f"{before}{begin}\n{text}\n{end}{after}"
