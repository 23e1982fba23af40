"""A registry that is not there, hangs, or answers nonsense: an error in time, never a hang."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from pilot_agent import Node, PilotError, RegistryError, Rendezvous
from support.waits import native_threads, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def registry(serve: Serve) -> AsyncIterator[str]:
    """A TCP server that does what a registry would not."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.write(b"\xff\xff\xff\xff")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def not_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer(reader, writer, b"{not json")


async def wrong_shape(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer(reader, writer, json.dumps({"type": "register_ok", "node_id": "x"}).encode())


async def says_no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer(reader, writer, json.dumps({"type": "error", "error": "closed today"}).encode())


async def empty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer(reader, writer, b"")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    while True:
        length = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(length)
        writer.write(len(body).to_bytes(4, "big") + body)
        await writer.drain()


@pytest.mark.parametrize(
    "serve", [hang, hang_up, garbage, endless, not_json, wrong_shape, says_no, empty]
)
async def test_a_registry_that_misbehaves_is_an_error_in_time(serve: Serve, tmp_path: Path) -> None:
    async with registry(serve) as address:
        started = time.monotonic()
        with pytest.raises((RegistryError, PilotError), match=address):
            await soon(Node.start("alice", rendezvous=address, home=tmp_path, timeout=1.0))
        assert time.monotonic() - started < 5
    assert native_threads(0) == 0


async def test_a_registry_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    async with registry(hang) as address:
        pass
    with pytest.raises(RegistryError, match=address) as caught:
        await soon(Node.start("alice", rendezvous=address, home=tmp_path, timeout=1.0))
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.rendezvous


async def test_a_name_that_does_not_resolve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nowhere\.invalid"):
        await soon(
            Node.start("alice", rendezvous="nowhere.invalid:1", home=tmp_path, timeout=2.0), 15
        )


async def test_a_failed_start_gives_the_identity_back(tmp_path: Path) -> None:
    async with registry(says_no) as address:
        with pytest.raises(PilotError, match="closed today"):
            await soon(Node.start("alice", rendezvous=address, home=tmp_path, timeout=1.0))
    async with (
        Rendezvous.start("127.0.0.1:0") as rendezvous,
        Node.start("alice", rendezvous=rendezvous.address, home=tmp_path) as alice,
    ):
        assert alice.hostname == "alice"
