"""The Go implementation: its Python SDK between two of its daemons, and its own benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support.godaemon import GoDaemon, binary
from support.ours import AgentProcess

from .base import Peer

__all__ = ["GoHandler", "GoSdk", "PilotctlToGo", "PilotctlToOurs"]

_ECHO = 7
# What it is fastest with, of 4 to 64 KiB; with 256 KiB its stream ends in an error.
_CHUNK = 4 << 10
_MIB = 1 << 20


class _Go(Peer):
    encrypted = True

    daemon: GoDaemon

    @classmethod
    def missing(cls) -> str | None:
        return None if binary("pilot-daemon") else "the package pilotprotocol is not installed"

    def new_daemon(self, hostname: str) -> GoDaemon:
        return GoDaemon(self.lab.directory, self.lab.rendezvous, hostname)

    async def start(self) -> None:
        self.daemon = self.new_daemon(self.lab.hostname("go"))
        await asyncio.to_thread(self.daemon.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.daemon.stop)


class GoSdk(_Go):
    """The SDK blocks: one thread writes while another reads; no event loop is in the way."""

    name = "Go daemon, its SDK"

    _other: GoDaemon | None = None
    _driver: Any = None
    _connection: Any = None

    async def start(self) -> None:
        await super().start()
        self._other = self.new_daemon(self.lab.hostname("go-other"))
        await asyncio.to_thread(self._other.start)
        self._driver = importlib.import_module("pilotprotocol").Driver(str(self.daemon.socket))
        port = await self.serve(self._other)
        self._connection = await asyncio.to_thread(
            self._driver.dial, f"{self._other.address}:{port}"
        )

    async def serve(self, other: GoDaemon) -> int:  # noqa: ARG002  (for those who need it)
        """What echoes at the other daemon: here its own service."""
        return _ECHO

    async def stop(self) -> None:
        for handle in (self._connection, self._driver):
            if handle is not None:
                await asyncio.to_thread(handle.close)
        if self._other is not None:
            await asyncio.to_thread(self._other.stop)
        await super().stop()

    async def throughput(self, size: int) -> float:
        return await asyncio.to_thread(self._bulk, size)

    def _bulk(self, size: int) -> float:
        chunk = bytes(_CHUNK)

        def send() -> None:
            left = size
            while left > 0:
                self._connection.write(chunk[:left] if left < _CHUNK else chunk)
                left -= _CHUNK

        start = time.perf_counter()
        sender = threading.Thread(target=send)
        sender.start()
        left = size
        while left > 0:
            left -= len(self._connection.read(_CHUNK))
        sender.join()
        return size / (time.perf_counter() - start)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await asyncio.to_thread(self._round_trips, count, payload)

    def _round_trips(self, count: int, payload: bytes) -> list[float]:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._connection.write(payload)
            left = len(payload)
            while left > 0:
                left -= len(self._connection.read(left))
            times.append(time.perf_counter() - start)
        return times


class GoHandler(GoSdk):
    """The same, but echoed by a Python program at the other daemon, as `request()` is answered."""

    name = "Go daemon, Python echoes"

    _handler: asyncio.subprocess.Process | None = None

    async def serve(self, other: GoDaemon) -> int:
        server = Path(__file__).parent.parent / "servers.py"
        self._handler = await asyncio.create_subprocess_exec(
            *(sys.executable, str(server), "go", str(other.socket), "4000"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._handler.stdout is not None, "asked for"
        return int(await self._handler.stdout.readline())

    async def stop(self) -> None:
        await super().stop()
        if self._handler is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                self._handler.kill()
            await self._handler.wait()

    async def throughput(self, size: int) -> float:
        raise NotImplementedError


class _Pilotctl(_Go):
    """`pilotctl bench`: no Python on the measured path of the sender."""

    @property
    def target(self) -> str:
        return self.lab.hostname("other")

    async def throughput(self, size: int) -> float:
        result = await self.daemon.json("bench", self.target, str(size // _MIB), timeout=120)
        return size / (float(result["total_duration_ms"]) / 1000)


class PilotctlToGo(_Pilotctl):
    """From one Go daemon to another."""

    name = "pilotctl bench, to a Go daemon"

    _other: GoDaemon | None = None

    async def start(self) -> None:
        await super().start()
        self._other = self.new_daemon(self.target)
        await asyncio.to_thread(self._other.start)

    async def stop(self) -> None:
        if self._other is not None:
            await asyncio.to_thread(self._other.stop)
        await super().stop()


class PilotctlToOurs(_Pilotctl):
    """From a Go daemon to our node: bound by the Go sender, so a check more than a race."""

    name = "pilotctl bench, to pilot-agent"

    _other: AgentProcess | None = None

    async def start(self) -> None:
        await super().start()
        self._other = AgentProcess(self.lab.directory / "other", self.lab.rendezvous, self.target)
        await self._other.start()

    async def stop(self) -> None:
        if self._other is not None:
            await self._other.kill()
        await super().stop()
