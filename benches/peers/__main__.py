"""One side of a peer: see `process`."""

from __future__ import annotations

import asyncio
import json
import sys
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


async def main(role: str, name: str, lab: str, *arguments: str) -> None:
    fields = json.loads(lab)
    kind = next(kind for kind in PEERS if kind.__name__ == name)
    peer = kind(Lab(**{**fields, "directory": Path(fields["directory"])}))
    try:
        if role == "serve":
            say(value=await peer.serve())
        else:
            await peer.connect(json.loads(arguments[0]))
            say(value=None)
        while line := await asyncio.to_thread(sys.stdin.readline):
            method, *values = json.loads(line)
            await measure(peer, method, values)
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        await peer.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
