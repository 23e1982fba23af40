"""What a peer of the comparison has to be able to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["CHUNK", "KIB", "Lab", "Peer", "free_port", "in_flight", "timed"]

KIB = 1024
CHUNK = 256 * KIB
"""Bytes given to one write, and asked of one read, unless a measurement says otherwise."""


_PATIENCE = 3.0
"""Seconds after which a slow peer has shown what it can."""

Driver: TypeAlias = Literal["asyncio", "blocking", "Rust", "Go"]


@dataclass(frozen=True)
class Lab:
    """Where one side of a peer runs.

    Args:
        directory: For its files; both sides have the same one.
        rendezvous: `host:port` of a running rendezvous, for those that need one.
        host: The address of this side: listens here, or connects from here.
        mtu: Of the path, for those that have to be told.
        congestion: The kernel's congestion control for peers over TCP; empty for its default.
    """

    directory: Path
    rendezvous: str = ""
    host: str = "127.0.0.1"
    mtu: int = 65_536
    congestion: str = ""

    def hostname(self, role: str) -> str:
        """A name that no other peer of the run has."""
        return f"{role}-{self.directory.name}"


class Peer(ABC):
    """One way to move bytes between two processes.

    One process calls `serve`, the other gives what that returned to `connect` and then measures.
    What it does not implement is not measured: a table shows `-`. A connection is made in
    `connect` and used for everything, unless a measurement is about making one.
    """

    name: ClassVar[str]
    """As in the table."""
    encrypted: ClassVar[bool] = True
    driver: ClassVar[Driver] = "asyncio"
    """What asks: a program in Rust is a reference, and an API that blocks needs no event loop."""
    needs_rendezvous: ClassVar[bool] = False
    largest: ClassVar[int] = 1 << 62
    """Bytes that one transfer may have."""
    chunks: ClassVar[tuple[int, ...]] = (CHUNK,)
    """Sizes of a write, and of a read, that throughput is measured with; the best one counts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.stack = contextlib.AsyncExitStack()
        """Undone, last in first out, by `close`."""

    @classmethod
    def missing(cls) -> str | None:
        """Why this peer cannot run here, or None."""
        return None

    @classmethod
    def version(cls) -> str:
        """The version of what is measured."""
        return ""

    @classmethod
    def command(cls, role: str, lab: Lab) -> tuple[str, ...]:
        """The program that is one side: `role` is `serve` or `connect`. See `process`."""
        fields = {**vars(lab), "directory": str(lab.directory)}
        return (sys.executable, "-m", "peers", role, cls.__name__, json.dumps(fields))

    @abstractmethod
    async def serve(self) -> dict[str, Any]:
        """Start the other side; returns, as JSON takes it, what `connect` needs to know."""

    @abstractmethod
    async def connect(self, where: dict[str, Any]) -> None:
        """Get ready to measure."""

    async def close(self) -> None:
        """Undo `serve` or `connect`, also after half of it."""
        await self.stack.aclose()

    async def send(self, size: int, chunk: int) -> float:
        """Send `size` bytes on one stream; seconds until the other side says it has them all."""
        raise NotImplementedError

    async def flow(self, seconds: float, piece: int) -> list[float]:
        """Send pieces on one stream for so long; when, from the start, each had arrived.

        The last thing a connection is used for: it ends in the middle of a piece.
        """
        raise NotImplementedError

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        """Send `payload` and wait for its echo, `count` times; seconds of each."""
        raise NotImplementedError

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        """The same with `depth` requests outstanding; seconds for all `count`."""
        raise NotImplementedError

    async def new_streams(self, count: int, payload: bytes) -> list[float]:
        """Open a stream to a peer that is known and get an echo, `count` times; seconds of each."""
        raise NotImplementedError

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        """Connect, know nothing of the peer but its address, and get an echo; seconds of each."""
        raise NotImplementedError

    async def fetch(self, parallel: int, size: int) -> list[float]:
        """Ask for `size` bytes, `parallel` times at once; seconds until each answer is there."""
        raise NotImplementedError

    async def keep_sending(self) -> None:
        """Send on a stream beside the requests, over the same connection, until cancelled."""
        raise NotImplementedError

    async def beside_bulk(self, count: int, payload: bytes) -> list[float]:
        """Round trips while a stream beside them sends as fast as it can; seconds of each.

        Fewer than `count` if they take long.
        """
        bulk = asyncio.create_task(self.keep_sending())
        try:
            await asyncio.sleep(0.3)  # time to fill every queue on the way
            if bulk.done():
                await bulk
            times: list[float] = []
            while len(times) < count and sum(times) < _PATIENCE:
                times += await self.round_trips(10, payload)
            return times
        finally:
            bulk.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await bulk


def free_port(host: str) -> int:
    """A TCP port that was free a moment ago, for servers that cannot say which one they took."""
    with socket.create_server((host, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def timed(count: int, once: Callable[[], Awaitable[object]]) -> list[float]:
    """Seconds that each of `count` calls took."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await once()
        times.append(time.perf_counter() - start)
    return times


async def in_flight(count: int, depth: int, once: Callable[[], Awaitable[object]]) -> float:
    """Seconds for `count` calls by `depth` tasks that each make one after the other."""
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await once()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(depth)))
    return time.perf_counter() - start
