"""Our nodes behind every pair of NAT kinds: all connect, directly where that is possible."""

from __future__ import annotations

import asyncio

import pytest

from netlab import missing
from netlab.matrix import Outcome, Plan, matrix

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(180),
]

# Bounds that mean "it works": `make netlab` prints how well.
SOON = 10.0


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return asyncio.run(matrix(Plan(short=True, seconds=4.0)))


def test_every_pair_gets_an_answer(outcomes: list[Outcome]) -> None:
    late = [one for one in outcomes if one.first is None or one.first > SOON]
    assert late == []


def test_pairs_that_can_be_direct_are(outcomes: list[Outcome]) -> None:
    assert [one for one in outcomes if one.possible and one.way != "direct"] == []


def test_nothing_is_lost_on_the_way_from_relay_to_direct(outcomes: list[Outcome]) -> None:
    assert [one for one in outcomes if one.lost] == []
    cut = [one for one in outcomes if one.trouble and one.first is not None]
    assert cut == []


def test_homes_may_have_the_same_private_addresses() -> None:
    """Two that are both 192.168.1.2 must not take each other, or themselves, for neighbours."""
    plan = Plan(("full-cone", "linux"), short=True, seconds=2.0, shared=False, alike=True)
    found = asyncio.run(matrix(plan))
    assert [one for one in found if one.way != "direct" or one.lost or one.trouble] == []
