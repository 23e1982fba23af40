"""Two Go daemons that know each other only through our rendezvous."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.godaemon import GoDaemon
    from support.ours import Rendezvous


async def test_they_ping_each_other(go: GoDaemon, other_go: GoDaemon) -> None:
    for caller, target in ((go, other_go), (other_go, go)):
        answer = await caller.json("ping", target.hostname, "--count", "2")
        assert answer["timeout"] is False
        assert [reply["seq"] for reply in answer["results"]] == [0, 1]
        assert answer["target"] == target.address
    peers = (await go.json("peers", "--all"))["peers"]
    assert {
        "node_id": other_go.node_id,
        "encrypted": True,
        "authenticated": True,
        "relay": False,
    } in peers


async def test_they_find_each_other_by_hostname_and_by_number(
    go: GoDaemon, other_go: GoDaemon
) -> None:
    found = await go.json("find", "go-b")
    assert (found["node_id"], found["address"]) == (other_go.node_id, other_go.address)
    record = await go.json("lookup", str(other_go.node_id))
    assert record["hostname"] == "go-b"
    assert record["public_key"] == other_go.info()["public_key"]


async def test_they_exchange_a_message(go: GoDaemon, other_go: GoDaemon) -> None:
    await go.json("send-message", "go-b", "--data", "from one Go daemon to another")
    message = other_go.inbox()[-1]
    assert message["data"] == "from one Go daemon to another"
    assert message["from"] == go.address


async def test_a_taken_hostname_is_refused(go: GoDaemon, other_go: GoDaemon) -> None:
    with pytest.raises(AssertionError, match="exit code"):
        await go.json("set-hostname", "go-b")
    assert (await go.json("find", "go-b"))["node_id"] == other_go.node_id


async def test_an_unknown_hostname_is_an_error_at_once(go: GoDaemon) -> None:
    with pytest.raises(AssertionError, match="exit code"):
        await go.json("ping", "nobody-has-this-name", timeout=10)


@pytest.mark.timeout(120)
async def test_the_rendezvous_restarts_and_keeps_what_it_knew(
    rendezvous: Rendezvous, go: GoDaemon, mortal_go: GoDaemon
) -> None:
    address = mortal_go.address
    await asyncio.to_thread(rendezvous.restart)
    record = await go.json("lookup", str(mortal_go.node_id))
    assert (record["address"], record["hostname"]) == (address, "go-mortal")
    await go.json("ping", "go-mortal", "--count", "1")
    await asyncio.to_thread(mortal_go.restart)
    assert mortal_go.address == address
    await go.json("ping", "go-mortal", "--count", "1")
