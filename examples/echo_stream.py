"""Moves data through a stream to an echo service and back, and compares what returned.

Run `python examples/echo_stream.py`, or `python examples/echo_stream.py PEER` with the hostname or
address of another node, ours or a Go daemon: every node has the echo service, on port 7.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time

from pilot_agent import Node, Stream

ECHO_PORT = 7
CHUNK = 64 * 1024
CHUNKS = 256


async def main(peer: str | None) -> None:
    async with Node.start("echo-caller") as node:
        if peer is not None:
            await echo(node, peer)
            return
        async with Node.start("echo-service"):
            await echo(node, "echo-service")


async def echo(node: Node, peer: str) -> None:
    """Send random bytes to the peer's echo service while reading what comes back."""
    async with await node.open_stream(peer, ECHO_PORT) as stream:
        started = time.monotonic()
        # Reading and writing at once: an echo that nobody reads fills the window both ways.
        sent, returned = await asyncio.gather(send(stream), receive(stream))
        seconds = time.monotonic() - started
        megabytes = CHUNK * CHUNKS / 1e6
        print(f"{megabytes:.1f} MB to {stream.peer} and back in {seconds:.2f} s")
        print(f"{2 * megabytes / seconds:.0f} MB/s, {stream.stats()}")
    if sent != returned:
        sys.exit("what came back is not what was sent")


async def send(stream: Stream) -> str:
    """Write everything; the digest of it."""
    digest = hashlib.sha256()
    for _ in range(CHUNKS):
        chunk = os.urandom(CHUNK)
        digest.update(chunk)
        await stream.write(chunk)
    return digest.hexdigest()


async def receive(stream: Stream) -> str:
    """Read as much as is sent; the digest of it."""
    digest = hashlib.sha256()
    left = CHUNK * CHUNKS
    while left:
        chunk = await stream.read(min(left, CHUNK))
        if not chunk:
            raise EOFError(f"the stream ended {left} bytes early")
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
