"""What a peer of the comparison has to be able to do."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["CHUNK", "ByteStream", "Lab", "Peer", "bulk", "timed"]

CHUNK = 256 << 10
"""Bytes given to one write, and asked of one read, of every peer."""


@dataclass(frozen=True)
class Lab:
    """Where a run takes place."""

    directory: Path
    rendezvous: str

    def hostname(self, role: str) -> str:
        """A name that no other peer of the run has."""
        return f"{role}-{self.directory.name}"


class Peer(ABC):
    """One way to move bytes from this Python process to another process and back.

    The other side runs in a process of its own and sends back what it gets. A connection is made
    in `start` and used for everything, so that no figure contains its set-up.
    """

    name: ClassVar[str]
    encrypted: ClassVar[bool]

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @classmethod
    def missing(cls) -> str | None:
        """Why this peer cannot run here, or None."""
        return None

    @abstractmethod
    async def start(self) -> None:
        """Start the other side and connect."""

    @abstractmethod
    async def stop(self) -> None:
        """Undo `start`, also after half of it."""

    async def throughput(self, size: int) -> float:
        """Send `size` bytes on one stream and get them back; bytes per second.

        Raises:
            NotImplementedError: It has no byte stream.
        """
        raise NotImplementedError

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        """Send `payload` and wait for its echo, `count` times; seconds of each.

        Raises:
            NotImplementedError: It cannot be measured.
        """
        raise NotImplementedError


class ByteStream(Protocol):
    """What `bulk` drives."""

    async def read(self, n: int) -> bytes:
        """Some bytes, at most `n`; none at the end."""

    async def write(self, data: bytes) -> None:
        """Take `data`; wait while there is no room."""


async def bulk(stream: ByteStream, size: int) -> float:
    """Push `size` bytes through an echoing stream, both directions at once; bytes per second."""
    chunk = bytes(CHUNK)

    async def send() -> None:
        left = size
        while left > 0:
            await stream.write(chunk[:left] if left < CHUNK else chunk)
            left -= CHUNK

    start = time.perf_counter()
    sending = asyncio.create_task(send())
    try:
        left = size
        while left > 0:
            data = await stream.read(CHUNK)
            if not data:
                message = f"the stream ended with {left} bytes to come"
                raise ConnectionError(message)
            left -= len(data)
        await sending
    finally:
        sending.cancel()
    return size / (time.perf_counter() - start)


async def timed(count: int, once: Callable[[], Awaitable[object]]) -> list[float]:
    """Seconds that each of `count` calls took."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await once()
        times.append(time.perf_counter() - start)
    return times
