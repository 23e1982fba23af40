"""One side of a peer: see `process`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import PEERS
from .base import Lab, Peer

_SIZES = {
    "round_trips": 1,
    "in_flight": 2,
    "new_streams": 1,
    "new_peers": 1,
    "beside_bulk": 1,
}
"""Which argument is a payload, given by its size."""


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def measure(peer: Peer, method: str, arguments: list[Any]) -> None:
    if method in _SIZES:
        arguments[_SIZES[method]] = bytes(arguments[_SIZES[method]])
    try:
        say(value=await getattr(peer, method)(*arguments))
    except NotImplementedError:
        say(missing=True)


async def work(role: str, peer: Peer, lines: asyncio.Queue[str], *arguments: str) -> None:
    try:
        if role == "serve":
            say(value=await peer.serve())
        else:
            await peer.connect(json.loads(arguments[0]))
            say(value=None)
        while True:
            method, *values = json.loads(await lines.get())
            await measure(peer, method, values)
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise


def read(lines: asyncio.Queue[str], loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(end.set)


async def main(role: str, name: str, lab: str, *arguments: str) -> None:
    """Until the work fails or the input ends, even if a measurement hangs in a thread."""
    fields = json.loads(lab)
    kind = next(kind for kind in PEERS if kind.__name__ == name)
    peer = kind(Lab(**{**fields, "directory": Path(fields["directory"])}))
    lines: asyncio.Queue[str] = asyncio.Queue()
    end, loop = asyncio.Event(), asyncio.get_running_loop()
    threading.Thread(target=read, args=(lines, loop, end), daemon=True).start()
    tasks = {asyncio.create_task(work(role, peer, lines, *arguments)), loop.create_task(end.wait())}
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in done:
        if (error := task.exception()) is not None:
            traceback.print_exception(error)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(peer.close(), 5)
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
