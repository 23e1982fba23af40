"""Puts an engine on the network: `python -m fleet.specialist papers` (or `fx`, `weather`)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from fleet import fx, papers, weather
from fleet.question import reply_to
from pilot_agent import Node, PilotError, Request

if TYPE_CHECKING:
    from fleet.question import Answer

__all__ = ["ENGINES", "serve"]

ENGINES = {"papers": papers, "fx": fx, "weather": weather}


async def serve(name: str, stop: asyncio.Event) -> None:
    """Answer questions for the engine `name` until `stop` is set."""
    engine = ENGINES[name]
    async with Node.start(f"specialist-{name}", capabilities=engine.CAPABILITIES) as node:

        @node.on_request
        async def handle(request: Request) -> Answer:
            try:
                question = request.json()
            except ValueError:
                question = None
            # Parsing and searching are quick; an engine that computes for long would go into a
            # thread here, because this coroutine shares its loop with every other request.
            return reply_to(engine.answer, question)

        await stop.wait()


async def _stop_when_stdin_ends(stop: asyncio.Event) -> None:
    # The process that started us holds the other end and never writes: however it ends, we end.
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stop.set()


async def _run(name: str, *, follow_stdin: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    watcher = asyncio.create_task(_stop_when_stdin_ends(stop)) if follow_stdin else None
    try:
        await serve(name, stop)
    finally:
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("--follow-stdin", action="store_true", help="stop when stdin ends")
    arguments = parser.parse_args()
    try:
        asyncio.run(_run(arguments.engine, follow_stdin=arguments.follow_stdin))
    except PilotError as error:
        sys.exit(f"specialist-{arguments.engine}: {error}")
