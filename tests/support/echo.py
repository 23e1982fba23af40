"""Bytes through an echo service and back, compared."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot_agent import Stream

__all__ = ["MIB", "echo"]

MIB = 1 << 20
_CHUNK = 256 << 10


async def echo(stream: Stream, size: int, under_way: asyncio.Event | None = None) -> None:
    """Send `size` random bytes through the echo service and compare what comes back.

    Sets `under_way` when the first MiB is back.
    """
    sent, received = hashlib.sha256(), hashlib.sha256()
    source = random.Random(size)

    async def send() -> None:
        left = size
        while left:
            chunk = source.randbytes(min(left, _CHUNK))
            sent.update(chunk)
            await stream.write(chunk)
            left -= len(chunk)

    sending = asyncio.create_task(send())
    try:
        got = 0
        while got < size:
            chunk = await stream.read(_CHUNK)
            assert chunk, f"the stream ended after {got} of {size} bytes"
            received.update(chunk)
            got += len(chunk)
            if under_way is not None and got >= MIB:
                under_way.set()
        await sending
    finally:
        sending.cancel()
    assert (got, received.digest()) == (size, sent.digest())
