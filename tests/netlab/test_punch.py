"""Symmetric NATs are punched through, with real ones: many ports and some luck."""

from __future__ import annotations

import asyncio

import pytest

from netlab import missing
from netlab.matrix import Plan, matrix

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.timeout(300)
def test_a_symmetric_nat_is_punched_through_from_behind_a_strict_one() -> None:
    outcomes = asyncio.run(matrix(Plan(("port-restricted", "symmetric"), seconds=25.0)))
    found = {(outcome.caller, outcome.callee): outcome for outcome in outcomes}
    assert all(not outcome.trouble and outcome.lost == 0 for outcome in outcomes)
    for pair in (("port-restricted", "symmetric"), ("symmetric", "port-restricted")):
        # In 20 s 99.97 of 100 attempts meet.
        assert found[pair].direct_after is not None, found[pair]
    assert found["symmetric", "symmetric"].way == "relayed"
