"""Trust: a private node is found and reached by those it approved, and nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pilot_agent import Node, PilotError, TrustRequest, TrustRequired
from support.waits import soon, started

if TYPE_CHECKING:
    from pilot_agent.testing import LocalNetwork


@pytest.fixture
async def strangers(network: LocalNetwork) -> tuple[Node, Node]:
    """Alice, and a hermit who is not public."""
    return await network.node("alice"), await network.node("hermit", public=False)


async def asked(hermit: Node) -> TrustRequest:
    """The request that comes to the hermit."""
    for _ in range(500):
        if pending := hermit.trust.pending():
            return pending[0]
        await asyncio.sleep(0.01)  # no event says that a request has come
    pytest.fail("no request came")


async def test_a_private_node_asks_for_trust(strangers: tuple[Node, Node]) -> None:
    alice, hermit = strangers
    with pytest.raises(TrustRequired, match="hermit is private"):
        await alice.send("hermit", "let me in")
    assert hermit.trust.trusted() == []


async def test_who_is_approved_is_let_in_until_trust_is_revoked(
    strangers: tuple[Node, Node],
) -> None:
    alice, hermit = strangers
    asking = await started(alice.trust.request("hermit", "we work together"))
    request = await asked(hermit)
    assert (request.address, request.public_key) == (alice.address, alice.public_key)
    assert request.reason == "we work together"
    await hermit.trust.approve(request.address)
    answer = await soon(asking)
    assert answer
    assert answer.state == "granted"
    [trusted] = hermit.trust.trusted()
    assert trusted.address == alice.address
    await soon(alice.send("hermit", "thank you"))
    assert (await soon(hermit.recv())).text() == "thank you"
    await hermit.trust.revoke("alice")
    assert hermit.trust.trusted() == []
    with pytest.raises(PilotError):
        await alice.send("hermit", "still there?", timeout=2)


async def test_who_is_rejected_hears_why(strangers: tuple[Node, Node]) -> None:
    alice, hermit = strangers
    asking = await started(alice.trust.request("hermit"))
    await hermit.trust.reject((await asked(hermit)).address, "no visitors")
    answer = await soon(asking)
    assert not answer
    assert answer.state == "refused"
    # An answer that comes by way of the rendezvous has no room for the reason.
    assert answer.reason in {"no visitors", ""}
    assert hermit.trust.pending() == []


async def test_a_decision_may_take_its_time(strangers: tuple[Node, Node]) -> None:
    alice, hermit = strangers
    answer = await soon(alice.trust.request("hermit", timeout=0.3))
    assert answer.state == "undecided"
    await hermit.trust.approve((await asked(hermit)).address)
    for _ in range(100):
        try:
            await soon(alice.send("hermit", "late, but welcome", timeout=1))
            break
        except TrustRequired:
            await asyncio.sleep(0.05)
    assert (await soon(hermit.recv())).text() == "late, but welcome"
