"""What a node of ours does to a Go daemon."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from pilot_agent import PeerNotFound, PilotError
from support.echo import MIB, echo

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_agent import Node
    from support.godaemon import GoDaemon

ECHO = 7


async def test_ping_by_hostname_address_and_number(go: GoDaemon, node: Node) -> None:
    for peer in (go.hostname, go.address, go.node_id):
        pong = await node.ping(peer, timeout=10)
        assert pong.address == go.address
        assert pong.path == "direct"
        assert 0 < pong.rtt < 1


async def test_an_unknown_hostname_is_not_found(node: Node) -> None:
    with pytest.raises(PeerNotFound, match="nobody-has-this-name"):
        await node.ping("nobody-has-this-name", timeout=10)


async def test_the_echo_service_answers_line_by_line(go: GoDaemon, node: Node) -> None:
    async with await node.open_stream(go.address, ECHO) as stream:
        for number in range(100):
            await stream.write(f"line {number}\n".encode())
            assert await stream.readline() == f"line {number}\n".encode()


@pytest.mark.timeout(180)
async def test_64_mib_go_through_and_come_back(go: GoDaemon, node: Node) -> None:
    async with await node.open_stream(go.hostname, ECHO) as stream:
        await echo(stream, 64 * MIB)


@pytest.mark.timeout(120)
async def test_streams_side_by_side(go: GoDaemon, node: Node) -> None:
    async def one() -> None:
        async with await node.open_stream(go.hostname, ECHO) as stream:
            await echo(stream, MIB)

    await asyncio.gather(*(one() for _ in range(8)))


async def test_text_json_and_bytes_reach_its_inbox(go: GoDaemon, node: Node) -> None:
    already = len(go.inbox())
    await node.send(go.hostname, "a text, with ümläuts")
    await node.send(go.address, {"pair": "EUR/USD", "rate": 1.5})
    await node.send(go.node_id, bytes(range(256)))
    text, record, raw = go.inbox()[already:]
    assert (text["type"], text["data"]) == ("TEXT", "a text, with ümläuts")
    assert (record["type"], record["data"]) == ("JSON", '{"pair":"EUR/USD","rate":1.5}')
    assert (raw["type"], raw["bytes"]) == ("BINARY", 256)
    assert {message["from"] for message in (text, record, raw)} == {node.address}
    shown = await go.json("inbox", "--limit", "3")
    assert [message["from"] for message in shown["messages"]] == [node.address] * 3


async def test_a_file_reaches_its_received_directory(
    go: GoDaemon, node: Node, tmp_path: Path
) -> None:
    source = tmp_path / "figures.csv"
    source.write_bytes(random.Random(1).randbytes(3_000_000))
    await node.send_file(go.hostname, source, timeout=60)
    stored = go.received()[-1]
    assert stored.name.startswith("figures-")
    assert stored.suffix == ".csv"
    assert stored.read_bytes() == source.read_bytes()
    shown = await go.json("received", "--limit", "1")
    assert shown["files"][0]["bytes"] == 3_000_000


@pytest.mark.timeout(180)
async def test_the_daemon_is_killed_and_comes_back_and_the_conversation_goes_on(
    mortal_go: GoDaemon, node: Node
) -> None:
    await node.send(mortal_go.hostname, "before")
    stream = await node.open_stream(mortal_go.hostname, ECHO)
    under_way = asyncio.Event()
    transfer = asyncio.create_task(echo(stream, 1024 * MIB, under_way))
    await asyncio.wait_for(under_way.wait(), 20)
    await asyncio.to_thread(mortal_go.restart)
    # What was under way ends with an error in bounded time; the node goes on at once.
    await node.send(mortal_go.hostname, "after", timeout=30)
    assert [message["data"] for message in mortal_go.inbox()] == ["before", "after"]
    with pytest.raises((PilotError, ConnectionError)):
        await asyncio.wait_for(transfer, 60)
    async with await node.open_stream(mortal_go.hostname, ECHO) as again:
        await echo(again, MIB)


async def test_the_daemon_ends_orderly_and_comes_back(mortal_go: GoDaemon, node: Node) -> None:
    await node.ping(mortal_go.hostname, timeout=10)
    await asyncio.to_thread(mortal_go.stop)
    await asyncio.to_thread(mortal_go.start)
    await node.send(mortal_go.hostname, "still there?", timeout=30)
    assert mortal_go.inbox()[-1]["data"] == "still there?"
