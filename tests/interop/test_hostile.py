"""Somebody on the path replays, reflects, cuts, changes and invents; nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import struct
from typing import TYPE_CHECKING

import pytest

from pilot_agent import Node, PilotError
from support.wire import Tap, variations

if TYPE_CHECKING:
    from pathlib import Path

    from support.godaemon import GoDaemon
    from support.ours import Rendezvous

pytestmark = pytest.mark.timeout(120)

SERVICES = [7, 444, 1000, 1001, 1002, 1100, 1, 0]
"""Every port that a node may serve by itself, and some that it does not."""


async def attack(tap: Tap, chance: random.Random, sent: list[int]) -> None:
    """Answers everything seen with variations of it, until cancelled."""
    own: set[bytes] = set()
    while True:
        for datagram in tap.seen():
            if hashlib.sha256(datagram.payload).digest() in own:
                continue  # one of ours: there would be no end
            for variation in chance.sample(variations(datagram, chance), 4):
                own.add(hashlib.sha256(variation.payload).digest())
                with contextlib.suppress(OSError):  # longer than a packet may be
                    tap.send(variation)
                sent[0] += 1
        await asyncio.sleep(0.001)


async def converse(alice: Node, bob: Node, stream_size: int) -> None:
    """Messages and a stream; everything arrives, once."""
    data = random.Random(1).randbytes(stream_size)
    assert bob.hostname is not None

    async def stream() -> None:
        async with await alice.open_stream(bob.address, 7) as echo:
            for start in range(0, len(data), 16384):
                chunk = data[start : start + 16384]
                await echo.write(chunk)
                assert await echo.readexactly(len(chunk)) == chunk

    async def messages() -> None:
        for number in range(200):
            await alice.send(bob.address, {"number": number}, timeout=30)

    await asyncio.gather(stream(), messages())
    got = [(await bob.recv(timeout=5)).json()["number"] for _ in range(200)]
    assert sorted(got) == list(range(200))
    with pytest.raises(TimeoutError):
        await bob.recv(timeout=0.3)


async def test_frames_on_the_path_change_nothing(
    rendezvous: Rendezvous, go: GoDaemon, node: Node, tmp_path: Path
) -> None:
    sent = [0]
    async with Node.start("bob", rendezvous=rendezvous.address, home=tmp_path / "bob") as bob:
        with Tap() as tap:
            attacking = asyncio.create_task(attack(tap, random.Random(7), sent))
            try:
                await node.ping(go.address, timeout=20)
                await converse(node, bob, 1 << 20)
                await go.json("ping", bob.address, "--count", "2")
                pong = await node.ping("bob", timeout=10)
            finally:
                attacking.cancel()
    assert pong.path == "direct"
    assert sent[0] > 500, f"only {sent[0]} datagrams were sent: this has shown nothing"


async def test_bytes_on_the_services_of_a_node_change_nothing(
    rendezvous: Rendezvous, node: Node, tmp_path: Path
) -> None:
    chance = random.Random(11)
    async with Node.start("mallory", rendezvous=rendezvous.address, home=tmp_path / "m") as mallory:

        async def pester(port: int) -> None:
            with contextlib.suppress(PilotError, ConnectionError, asyncio.TimeoutError):
                async with await mallory.open_stream(node.address, port, timeout=5) as stream:
                    if chance.random() < 0.5:  # a length that promises much
                        await stream.write(struct.pack(">II", chance.randrange(12), 0xFFFF_FFF0))
                    await stream.write(chance.randbytes(chance.randrange(1, 4000)))
                    await asyncio.wait_for(stream.read(), 0.5)

        for _ in range(8):
            await asyncio.gather(*(pester(port) for port in SERVICES))
        await mallory.send(node.address, "still friends?")
        message = await node.recv(timeout=10)
        assert (message.sender, message.text()) == (mallory.address, "still friends?")


async def test_bytes_on_the_registry_change_nothing(
    rendezvous: Rendezvous, node: Node, tmp_path: Path
) -> None:
    host, _, port = rendezvous.address.rpartition(":")
    chance = random.Random(13)
    forged = {
        "type": "set_hostname",
        "node_id": node.node_id,
        "hostname": "stolen",
        "signature": "A" * 86 + "==",
    }
    texts = [
        b"{}",
        b"[]",
        b"null",
        b'{"type":7}',
        b'{"type":"lookup","node_id":-1}',
        b"[" * 60_000,
        json.dumps(forged).encode(),
        json.dumps({**forged, "type": "deregister"}).encode(),
        b'{"type":"register","listen_addr":"127.0.0.1:1","public_key":"AAAA"}',
    ]

    async def pester(data: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            writer.write(data)
            await writer.drain()
            await asyncio.wait_for(reader.read(1000), 0.3)
        writer.close()

    frames = [struct.pack(">I", len(text)) + text for text in texts]
    frames += [chance.randbytes(chance.randrange(1, 300)) for _ in range(30)]
    frames += [struct.pack(">I", 0xFFFF_FFFF), struct.pack(">I", 100) + b"{", b"PILT\x01", b""]
    await asyncio.gather(*(pester(frame) for frame in frames))
    async with Node.start("witness", rendezvous=rendezvous.address, home=tmp_path) as witness:
        assert await witness.resolve(node.hostname or "") == node.address
        with pytest.raises(PilotError):
            await witness.resolve("stolen")
