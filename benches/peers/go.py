"""The Go implementation: its Python SDK between two of its daemons, and its own benchmark.

The SDK blocks, so a thread drives it; no event loop is in the way.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from support.godaemon import GoDaemon, binary

from .base import KIB, Peer
from .streams import header

__all__ = ["GoSdk", "Pilotctl"]

_PORT = 4000
# What it is fastest with, of 4 to 64 KiB; with 256 KiB its stream ends in an error.
_CHUNK = 4 * KIB
_MIB = 1 << 20
_HEADER = len(header(b"E"))


class _Go(Peer):
    needs_rendezvous = True
    chunks = (_CHUNK,)
    largest = 16 * _MIB
    """A longer transfer stalls for good now and then, its reader waiting for more."""

    daemon: GoDaemon

    @classmethod
    def missing(cls) -> str | None:
        return None if binary("pilot-daemon") else "the package pilotprotocol is not installed"

    @classmethod
    def version(cls) -> str:
        return version("pilotprotocol")

    async def start_daemon(self, role: str) -> None:
        self.daemon = GoDaemon(
            self.lab.directory,
            self.lab.rendezvous,
            self.lab.hostname(role),
            listen=f"{self.lab.host}:0",
        )
        self.stack.push_async_callback(asyncio.to_thread, self.daemon.stop)
        await asyncio.to_thread(self.daemon.start)

    async def serve(self) -> dict[str, Any]:
        await self.start_daemon("go-server")
        return {"address": self.daemon.address, "hostname": self.daemon.hostname}


class GoSdk(_Go):
    """The SDK at both ends."""

    name = "Go daemon, its SDK"
    driver = "blocking"

    _sdk: Any
    _driver: Any
    _bulk: Any
    _echoing: Any

    async def serve(self) -> dict[str, Any]:
        where = await super().serve()
        sdk = importlib.import_module("pilotprotocol")
        listener = sdk.Driver(str(self.daemon.socket)).listen(_PORT)
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        return where

    async def connect(self, where: dict[str, Any]) -> None:
        await self.start_daemon("go-client")
        self._where = f"{where['address']}:{_PORT}"
        self._driver = importlib.import_module("pilotprotocol").Driver(str(self.daemon.socket))
        self._bulk = await asyncio.to_thread(self._driver.dial, self._where)
        self._echoing = await asyncio.to_thread(self._driver.dial, self._where)
        await asyncio.to_thread(self._echoing.write, header(b"E"))

    async def send(self, size: int, chunk: int) -> float:
        def send() -> float:
            start = time.perf_counter()
            self._bulk.write(header(b"S", size))
            _give(self._bulk, size, chunk)
            _exactly(self._bulk, 1)
            return time.perf_counter() - start

        return await asyncio.to_thread(send)

    async def flow(self, seconds: float, piece: int) -> list[float]:
        times: list[float] = []
        start = time.perf_counter()

        def give() -> None:
            while True:
                self._bulk.write(header(b"S", piece))
                _give(self._bulk, piece, _CHUNK)

        def take() -> None:
            while done := self._bulk.read(_CHUNK):
                times.extend([time.perf_counter() - start] * len(done))

        for work in (give, take):
            threading.Thread(target=work, daemon=True).start()
        await asyncio.sleep(seconds)
        return list(times)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await asyncio.to_thread(self._round_trips, count, payload)

    def _round_trips(self, count: int, payload: bytes) -> list[float]:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._echoing.write(payload)
            _exactly(self._echoing, len(payload))
            times.append(time.perf_counter() - start)
        return times

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        """One thread writes while another reads, as the SDK would have it."""
        free = threading.Semaphore(depth)

        def write() -> None:
            for _ in range(count):
                free.acquire()
                self._echoing.write(payload)

        def run() -> float:
            start = time.perf_counter()
            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            for _ in range(count):
                _exactly(self._echoing, len(payload))
                free.release()
            return time.perf_counter() - start

        return await asyncio.to_thread(run)

    async def new_streams(self, count: int, payload: bytes) -> list[float]:
        def once() -> float:
            start = time.perf_counter()
            stream = self._driver.dial(self._where)
            stream.write(header(b"E") + payload)
            _exactly(stream, len(payload))
            seconds = time.perf_counter() - start
            stream.close()
            return seconds

        return [await asyncio.to_thread(once) for _ in range(count)]

    async def keep_sending(self) -> None:
        stop = threading.Event()

        def send() -> None:
            with suppress(Exception), self._driver.dial(self._where) as stream:
                stream.write(header(b"S", 1 << 60))
                while not stop.is_set():
                    _give(stream, 16 * _CHUNK, _CHUNK)

        try:
            await asyncio.to_thread(send)
        finally:
            stop.set()

    async def fetch(self, parallel: int, size: int) -> list[float]:
        start = time.perf_counter()

        def one() -> float:
            stream = self._driver.dial(self._where)
            stream.write(header(b"G", size))
            _exactly(stream, size)
            seconds = time.perf_counter() - start
            stream.close()
            return seconds

        return list(await asyncio.gather(*(asyncio.to_thread(one) for _ in range(parallel))))


class Pilotctl(_Go):
    """`pilotctl bench`: no Python on the measured path. All bytes go there and back."""

    name = "Go daemon, pilotctl bench (echo)"
    driver = "Go"

    async def connect(self, where: dict[str, Any]) -> None:
        await self.start_daemon("go-client")
        self._target = where["hostname"]

    async def send(self, size: int, chunk: int) -> float:  # noqa: ARG002  (it has its own)
        result = await self.daemon.json("bench", self._target, str(size // _MIB), timeout=120)
        return float(result["total_duration_ms"]) / 1000


def _accept(listener: Any) -> None:
    while True:
        threading.Thread(target=_answer, args=(listener.accept(),), daemon=True).start()


def _answer(stream: Any) -> None:
    # The end of a connection is an error to the SDK.
    with suppress(Exception), stream:
        while True:
            question = _exactly(stream, _HEADER)
            kind, size = question[:1], int.from_bytes(question[1:], "big")
            if kind == b"S":
                _exactly(stream, size)
                stream.write(b".")
            elif kind == b"G":
                _give(stream, size, _CHUNK)
            else:
                while data := stream.read(_CHUNK):
                    stream.write(data)


def _exactly(stream: Any, size: int) -> bytes:
    """Reads `size` bytes; gives back the last of them, all of them if they came in one piece."""
    data = b""
    while size > 0:
        data = stream.read(min(size, _CHUNK))
        if not data:
            raise ConnectionError("the stream ended")
        size -= len(data)
    return data


def _give(stream: Any, size: int, chunk: int) -> None:
    data = bytes(chunk)
    while size > 0:
        stream.write(data if size >= chunk else data[:size])
        size -= chunk
