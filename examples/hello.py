"""The first program: a question to one agent, a stream to another.

Run `python examples/hello.py`. Both agents live in this process here; give each a process, or a
machine, of its own and nothing else changes. `examples/fleet` does that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet import fx, papers
from fleet.question import Answer, reply_to
from pilot_agent import Listener, Node, Request, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def main() -> None:
    async with specialists(), await Node.start("coordinator") as node:
        print(node.address)
        question = {"pair": "EUR/USD", "on": "2008-07-15"}
        reply = await node.request("specialist-fx", question, timeout=5)
        print(reply.json())
        async with await node.open_stream("specialist-papers", 1000) as stream:
            await stream.write(b"attention is all you need\n")
            print((await stream.readline()).decode(), end="")


@contextlib.asynccontextmanager
async def specialists() -> AsyncIterator[None]:
    """Two agents that answer: one request by request, one line by line on a stream."""
    async with (
        Node.start("specialist-fx", capabilities=fx.CAPABILITIES) as rates,
        Node.start("specialist-papers", capabilities=papers.CAPABILITIES) as library,
        library.listen(1000) as listener,
    ):

        @rates.on_request
        async def quote(request: Request) -> Answer:
            return reply_to(fx.answer, request.json())

        librarian = asyncio.create_task(accept(listener))
        try:
            yield
        finally:
            librarian.cancel()


async def accept(listener: Listener) -> None:
    """Serve streams for ever, each in a task of its own."""
    serving = set[asyncio.Task[None]]()
    async for stream in listener:
        task = asyncio.create_task(look_up(stream))
        serving.add(task)
        task.add_done_callback(serving.discard)


async def look_up(stream: Stream) -> None:
    """Answer each line with the paper that fits it best."""
    async with stream:
        async for line in stream:
            answer = reply_to(papers.answer, {"query": line.decode(errors="replace")})
            await stream.write(f"{answer.get('text') or answer['error']}\n".encode())


if __name__ == "__main__":
    asyncio.run(main())
