"""What figures mean and how they are shown; no network."""

from __future__ import annotations

import pytest

from netlab.events import RATE, figures_of
from netlab.field import KINDS, Field, Pair, Place, can_be_direct
from netlab.matrix import Outcome
from netlab.tables import as_tables, between_marks


def samples(*pauses: tuple[float, float], until: float = 10.0) -> list[tuple[float, int]]:
    """A stream at its rate, noted every 20 ms, except in pauses (from, for)."""
    noted, total = [(0.0, 0)], 0
    for step in range(1, int(until / 0.02)):
        now = step * 0.02
        if not any(start <= now < start + length for start, length in pauses):
            total += int(RATE * 0.02)
            noted.append((now, total))
    return noted


def test_a_pause_is_measured_from_its_cause() -> None:
    found = figures_of(samples((3.0, 2.5)), 3.0, 5.0)
    assert found.stood_still == pytest.approx(2.5, abs=0.05)
    assert found.recovered == pytest.approx(0.5, abs=0.05)


def test_a_pause_before_it_does_not_count() -> None:
    found = figures_of(samples((1.0, 1.0)), 3.0, 3.0)
    assert found.stood_still == pytest.approx(0.02, abs=0.01)
    assert found.recovered == pytest.approx(0, abs=0.05)


def test_a_stream_that_ended_never_recovered() -> None:
    assert figures_of(samples(until=3.0), 3.0, 3.0).recovered is None


def test_who_can_be_direct() -> None:
    def can(caller: str, callee: str) -> bool:
        ways = {
            can_be_direct(Pair(Place("a", x), Place("b", y)))
            for x, y in ((caller, callee), (callee, caller))
        }
        (way,) = ways
        return way

    assert can("symmetric", "restricted")
    assert can("symmetric", "public")
    assert can("port-restricted", "double")
    assert not can("symmetric", "port-restricted")
    assert not can("symmetric", "firewall")
    assert not can("symmetric", "symmetric")
    assert not can("public", "udp-blocked")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_rounds_have_every_pair_and_nobody_twice(count: int) -> None:
    field = Field(KINDS[:count], shared=False)
    for short in (False, True):
        rounds = field.rounds(short=short)
        for pairs in rounds:
            hosts = [place.host for pair in pairs for place in (pair.caller, pair.callee)]
            assert len(hosts) == len(set(hosts))
        met = {(pair.caller.kind, pair.callee.kind) for pairs in rounds for pair in pairs}
        if short:
            assert len({frozenset(kinds) for kinds in met}) == count * (count + 1) / 2
        else:
            assert len(met) == count * count


def test_a_table_goes_between_its_marks() -> None:
    outcomes = [
        Outcome("public", "public", True, first=0.05, way="direct", direct_after=0.1),
        Outcome("public", "symmetric", True, trouble="silence"),
        Outcome("same", "same", True, first=0.02, way="relayed"),
    ]
    text = as_tables({"ours": outcomes})
    assert "| **public** | 50 ms, direct 0.1 s | no |" not in text
    assert "50 ms, direct 0.1 s" in text
    assert "2 of 3 pairs connect" in text
    page = "before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n"
    assert between_marks(page, "x", "new") == (
        "before\n<!-- x:begin -->\nnew\n<!-- x:end -->\nafter\n"
    )
    with pytest.raises(ValueError, match="marks"):
        between_marks(page, "y", "new")
