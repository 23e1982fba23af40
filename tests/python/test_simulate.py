"""Bad networks on demand."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import InvalidArgument, NodeClosed, PeerNotFound, Request, RequestTimeout

if TYPE_CHECKING:
    from pilot_agent import Node
    from pilot_agent.testing import LocalNetwork


async def least_rtt(node: Node, peer: str) -> float:
    return min([(await node.ping(peer)).rtt for _ in range(5)])


async def test_a_delay_is_added_in_each_direction(pair: tuple[Node, Node]) -> None:
    alice, _bob = pair
    await alice.ping("bob")
    with alice.simulate(delay=0.2):
        assert (await alice.ping("bob")).rtt >= 0.4
    with alice.simulate(delay=0.2, direction="out"):
        assert 0.2 <= await least_rtt(alice, "bob") < 0.4
    assert await least_rtt(alice, "bob") < 0.2


async def test_all_messages_arrive_although_a_tenth_is_lost(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with alice.simulate(loss=0.1, delay=0.002, seed=7) as simulation:
        await asyncio.gather(*(alice.send("bob", str(number)) for number in range(300)))
        got = {(await bob.recv(timeout=10)).text() for _ in range(300)}
        for _ in range(100):
            await alice.send_datagram("bob", 4000, b"x")
    assert got == {str(number) for number in range(300)}
    outgoing = simulation.counters().outgoing
    assert 0 < outgoing.lost < outgoing.sent / 2
    assert outgoing.delivered == outgoing.sent - outgoing.lost
    assert simulation.counters().incoming.sent > 0


async def test_the_seed_decides_which_datagrams_are_lost(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    await alice.ping("bob")

    async def survivors(seed: int) -> list[bytes]:
        got: list[bytes] = []
        async with bob.datagrams(4000) as port:
            with alice.simulate(loss=0.5, direction="out", seed=seed):
                for number in range(100):
                    await alice.send_datagram("bob", 4000, bytes([number]))
            await alice.send_datagram("bob", 4000, b"end")
            async for datagram in port:
                if datagram.data == b"end":
                    return got
                got.append(datagram.data)
        raise AssertionError

    # The node may send something of its own in between; it does so now and then, not each time.
    seen: list[list[bytes]] = []
    while (latest := await survivors(1)) not in seen:
        seen.append(latest)
        assert len(seen) < 20
    assert 20 < len(latest) < 80
    assert await survivors(2) != latest


async def test_a_rate_holds_up_what_does_not_fit(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def size(request: Request) -> Any:
        return len(request.payload)

    loop = asyncio.get_running_loop()
    start = loop.time()
    async with alice.simulate(rate="800kbit", direction="out"):
        reply = await alice.request("bob", bytes(100_000), timeout=30)
    assert reply.json() == 100_000
    assert loop.time() - start >= 0.9


async def test_without_the_direct_way_the_relay_is_taken_and_left_again(
    pair: tuple[Node, Node],
) -> None:
    alice, _bob = pair
    assert (await alice.ping("bob")).path == "direct"

    async def until(path: str) -> None:
        while True:
            pong = await alice.ping("bob", timeout=20)
            if pong.path == path:
                return
            await asyncio.sleep(0.05)

    async with alice.simulate(block="direct") as simulation:
        await asyncio.wait_for(until("relay"), 20)
        await alice.send("bob", "by way of the rendezvous")
    assert simulation.counters().outgoing.blocked > 0
    await asyncio.wait_for(until("direct"), 30)


async def test_without_udp_nothing_gets_through_until_it_ends(pair: tuple[Node, Node]) -> None:
    alice, _bob = pair
    await alice.ping("bob")
    with alice.simulate(block="udp") as simulation, pytest.raises(RequestTimeout):
        await alice.ping("bob", timeout=0.3)
    counters = simulation.counters()
    assert counters.outgoing.blocked == counters.outgoing.sent > 0
    assert counters.outgoing.delivered == 0
    await alice.ping("bob", timeout=20)


async def test_a_simulation_for_one_peer_leaves_the_others(network: LocalNetwork) -> None:
    alice, bob, _carol = await network.nodes("alice", "bob", "carol")
    for peer in ("bob", "carol"):
        await alice.ping(peer)
    for name in ("bob", bob.address, bob.node_id):
        with alice.simulate(block="udp", peer=name):
            await alice.ping("carol")
            with pytest.raises(RequestTimeout):
                await alice.ping("bob", timeout=0.2)
    # Both ends of it may be in one: this one has not talked to anybody by itself.
    async with bob.simulate(block="udp", peer="alice") as simulation:
        await bob.ping("carol", timeout=20)
        with pytest.raises(RequestTimeout):
            await alice.ping("bob", timeout=0.3)
    assert simulation.counters().incoming.blocked > 0


async def test_a_peer_that_does_not_exist_is_an_error_or_at_least_a_warning(
    pair: tuple[Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    alice, _bob = pair
    with pytest.raises(PeerNotFound):
        async with alice.simulate(loss=1.0, peer="nobody"):
            pass
    with (
        caplog.at_level(logging.WARNING, "pilot_agent"),
        alice.simulate(loss=1.0, peer="nobody"),
    ):
        while "nobody" not in caplog.text:
            await asyncio.sleep(0.01)
        await alice.ping("bob")


async def test_simulations_add_up(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    await alice.ping("bob")
    with alice.simulate(delay=0.1), alice.simulate(delay=0.1), bob.simulate(delay=0.1):
        assert (await alice.ping("bob")).rtt >= 0.6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"loss": 1.5}, "loss"),
        ({"loss": float("nan")}, "loss"),
        ({"loss": 3, "burst": 4}, "loss"),
        ({"burst": 4}, "loss"),
        ({"loss": 0.1, "burst": 0.5}, "burst"),
        ({"delay": -1}, "delay"),
        ({"delay": 61}, "60"),
        ({"jitter": float("inf")}, "jitter"),
        ({"rate": -5}, "rate"),
        ({"rate": "fast"}, "8mbit"),
        ({"duplicate": 2}, "duplicate"),
        ({"reorder": -0.1}, "reorder"),
        ({"mtu": -1}, "mtu"),
        ({"seed": -1}, "seed"),
        ({"block": "tcp"}, "udp"),
        ({"direction": "sideways"}, "direction"),
    ],
)
async def test_nonsense_is_refused_by_name(
    pair: tuple[Node, Node], options: dict[str, Any], word: str
) -> None:
    alice, _bob = pair
    with pytest.raises(InvalidArgument, match=word):
        alice.simulate(**options)
    await alice.ping("bob")


async def test_a_simulation_ends_once_and_with_its_node(pair: tuple[Node, Node]) -> None:
    alice, _bob = pair
    simulation = alice.simulate(loss=0.5, seed=3)
    assert repr(simulation) == "<pilot_agent.Simulation loss=0.5, seed=3>"
    assert simulation.stop() == simulation.stop() == simulation.counters()
    assert not simulation.is_active
    assert repr(simulation) == "<pilot_agent.Simulation loss=0.5, seed=3 over>"
    other = alice.simulate(delay=0.01)
    await alice.close()
    assert not other.is_active
    other.stop()
    with pytest.raises(NodeClosed):
        alice.simulate(delay=0.01)


async def test_a_whole_network_may_be_a_bad_one(network: LocalNetwork) -> None:
    alice, bob, gone = await network.nodes("alice", "bob", "gone")
    await gone.close()
    await alice.ping("bob")
    with network.simulate(delay=0.1) as simulations:
        assert len(simulations) == 2
        assert 0.2 <= await least_rtt(alice, "bob") < 0.4
        await bob.send("alice", "hello")
    assert all(simulation.counters().outgoing.delivered for simulation in simulations)
    assert await least_rtt(alice, "bob") < 0.1
