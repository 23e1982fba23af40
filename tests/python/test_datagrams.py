"""Datagrams and what a node tells about itself and others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pilot_agent import AgentInfo, NodeClosed, PayloadTooLarge, PeerNotFound, PortInUse
from support.waits import soon, started

if TYPE_CHECKING:
    from pilot_agent import Datagram, Node
    from pilot_agent.testing import LocalNetwork


async def test_a_datagram_arrives_and_can_be_answered(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.datagrams(5000) as theirs, alice.datagrams(5001) as ours:
        await ours.send("bob", 5000, b"ping")
        datagram = await soon(theirs.recv())
        assert (datagram.sender, datagram.port, datagram.data) == (alice.address, 5001, b"ping")
        await theirs.send(datagram.sender, datagram.port, bytearray(b"pong"))
        assert (await soon(ours.recv())).data == b"pong"
        await alice.send_datagram("bob", 5000, memoryview(b"bare"), source_port=5001)
        assert (await soon(theirs.recv())).data == b"bare"
        assert theirs.dropped == 0


async def test_datagrams_iterate_until_the_port_is_closed(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    port = bob.datagrams(5000)

    async def collect() -> list[bytes]:
        return [datagram.data async for datagram in port]

    await alice.send_datagram("bob", 5000, b"1")
    first: Datagram = await soon(port.recv())
    assert first.data == b"1"
    collecting = await started(collect())
    port.close()
    assert await soon(collecting) == []
    with pytest.raises(NodeClosed, match="datagram port is closed"):
        await port.recv()
    bob.datagrams(5000).close()


async def test_a_port_is_taken_once(pair: tuple[Node, Node]) -> None:
    async with pair[1].datagrams(5000):
        with pytest.raises(PortInUse, match="5000"):
            pair[1].datagrams(5000)


async def test_a_datagram_that_fits_nowhere_is_refused(pair: tuple[Node, Node]) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        await pair[0].send_datagram("bob", 5000, bytes(100_000))
    assert caught.value.size == 100_000


async def test_ping_measures_and_names_the_path(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    pong = await alice.ping("bob")
    assert pong.address == bob.address
    assert 0 < pong.rtt < 5
    assert pong.path == "direct"
    assert pong.endpoint == bob.info().local_addr
    with pytest.raises(PeerNotFound):
        await alice.ping("nobody")


async def test_agents_are_found_by_what_they_can_do(network: LocalNetwork) -> None:
    caller = await network.node()
    papers = await network.node("papers", capabilities=["academic citations", "bibliography"])
    await network.node("weather", capabilities=["aviation weather"])
    await network.node("hidden", capabilities=["academic secrets"], public=False)
    found = await caller.find("academic citations", limit=5)
    assert isinstance(found[0], AgentInfo)
    assert (found[0].hostname, found[0].address) == ("papers", papers.address)
    assert found[0].capabilities == ("academic citations", "bibliography")
    assert found[0].score > 0
    assert "hidden" not in {agent.hostname for agent in found}
    await papers.set_capabilities(["gardening"])
    assert [agent.hostname for agent in await caller.find("gardening")] == ["papers"]
    assert await caller.find("nothing of the kind") == []


async def test_info_and_peers_tell_the_truth(network: LocalNetwork) -> None:
    alice = await network.node("alice", capabilities=["testing"])
    bob = await network.node("bob")
    info = alice.info()
    assert (info.address, info.node_id, info.hostname) == (alice.address, alice.node_id, "alice")
    assert info.public_key == alice.public_key
    assert len(info.public_key) == 32
    assert info.rendezvous == network.rendezvous
    assert info.registered
    assert info.capabilities == ("testing",)
    assert alice.peers() == []
    await alice.ping("bob")
    [peer] = alice.peers()
    assert (peer.address, peer.encrypted, peer.path) == (bob.address, True, "direct")
    assert peer.public_key == bob.public_key
    assert peer.bytes_sent > 0
    assert await alice.resolve("bob") == bob.address
    assert await alice.resolve(bob.node_id) == bob.address


async def test_many_nodes_ping_each_other_at_once(network: LocalNetwork) -> None:
    nodes = await network.nodes(*(f"node-{number}" for number in range(8)))
    pongs = await soon(
        asyncio.gather(
            *(a.ping(b.address) for a in nodes for b in nodes if a is not b),
        ),
        30,
    )
    assert {pong.path for pong in pongs} == {"direct"}
