"""What the Go command-line tool does to a node of ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from support.ours import AgentProcess

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_agent import Node
    from support.godaemon import GoDaemon
    from support.ours import Rendezvous


def name(node: Node) -> str:
    """The hostname of a node that has one."""
    assert node.hostname is not None
    return node.hostname


async def test_ping_by_hostname_address_and_number(go: GoDaemon, node: Node) -> None:
    for target in (name(node), node.address):
        answer = await go.json("ping", target, "--count", "3")
        assert answer["timeout"] is False
        assert [reply["bytes"] for reply in answer["results"]] == [6, 6, 6]
        assert answer["target"] == node.address
    peers = {peer["node_id"]: peer for peer in (await go.json("peers", "--all"))["peers"]}
    assert peers[node.node_id]["encrypted"] is True
    assert peers[node.node_id]["authenticated"] is True
    assert peers[node.node_id]["relay"] is False


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("text", "a plain text, with ümläuts", "text"),
        ("json", '{"pair": "EUR/USD", "on": "2008-07-15"}', "json"),
        ("binary", "raw", "bytes"),
    ],
)
async def test_a_message_arrives_once(
    go: GoDaemon, node: Node, kind: str, text: str, expected: str
) -> None:
    answer = await go.json("send-message", name(node), "--type", kind, "--data", text)
    assert answer["ack"] == f"ACK {kind.upper()} {len(text.encode())} bytes"
    assert answer["tagged"] is True, "we know message ids, so the tool need not send it twice"
    message = await node.recv(timeout=10)
    assert (message.sender, message.kind, message.text()) == (go.address, expected, text)
    await go.json("send-message", name(node), "--data", "the next one")
    assert (await node.recv(timeout=10)).text() == "the next one"


async def test_many_messages_on_one_connection(go: GoDaemon, node: Node) -> None:
    await go.pilotctl(
        "send-message", name(node), "--data", "again", "--count", "20", "--reuse-conn"
    )
    messages = [await node.recv(timeout=10) for _ in range(20)]
    assert {message.text() for message in messages} == {"again"}


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_a_file_arrives_whole(go: GoDaemon, node: Node, tmp_path: Path, size: int) -> None:
    source = tmp_path / "report.bin"
    source.write_bytes(bytes(range(256)) * (size // 256 + 1))
    with source.open("r+b") as file:
        file.truncate(size)
    answer = await go.json("send-file", name(node), str(source))
    assert answer["bytes"] == size
    message = await node.recv(timeout=10)
    assert (message.kind, message.filename, message.sender) == ("file", "report.bin", go.address)
    assert message.path is not None
    assert message.path.is_relative_to(tmp_path)
    stored = message.path.read_bytes()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(source.read_bytes()).digest()


@pytest.mark.timeout(120)
async def test_bench_gets_every_byte_back(go: GoDaemon, node: Node) -> None:
    answer = await go.json("bench", name(node), "16", timeout=100)
    assert answer["complete"] is True
    assert answer["recv_bytes"] == answer["sent_bytes"] == 16 << 20


async def test_connect_talks_to_our_listener(go: GoDaemon, node: Node) -> None:
    async with node.listen(1000) as listener:

        async def answer() -> None:
            async for stream in listener:
                async with stream:
                    await stream.write(b"you said " + await stream.read(100))
                return

        answering = asyncio.create_task(answer())
        result = await go.json("connect", name(node), "1000", "--message", "hello")
        assert result["response"] == "you said hello"
        await answering


async def test_a_closed_port_refuses_at_once(go: GoDaemon, node: Node) -> None:
    with pytest.raises(AssertionError, match="cannot connect"):
        await go.json("connect", node.address, "4321", "--message", "hello", timeout=10)


async def test_a_datagram_arrives(go: GoDaemon, node: Node) -> None:
    datagrams = node.datagrams(4242)
    waiting = asyncio.ensure_future(anext(aiter(datagrams)))
    await asyncio.sleep(0)
    await go.json("dgram", name(node), "4242", "--data", "a datagram")
    datagram = await asyncio.wait_for(waiting, 10)
    assert (datagram.sender, datagram.data) == (go.address, b"a datagram")


@pytest.mark.timeout(180)
async def test_we_are_killed_and_come_back_and_the_conversation_goes_on(
    go: GoDaemon, rendezvous: Rendezvous, tmp_path: Path
) -> None:
    ours = AgentProcess(tmp_path, rendezvous.address, "ours-mortal")
    async with ours:
        address = ours.address
        await go.json("send-message", "ours-mortal", "--data", "before")
        assert (await ours.next("message"))["text"] == "before"
        await ours.kill()
        await ours.start()
        assert ours.address == address, "the same identity keeps its address"
        await go.json("send-message", "ours-mortal", "--data", "after", timeout=60)
        assert (await ours.next("message"))["text"] == "after"
        # And the other way, with the daemon's old key still in its table.
        await ours.command(to=go.address, send=json.dumps({"said": "by the new process"}))
        await ours.next("sent")
        assert "by the new process" in go.inbox()[-1]["data"]
