"""``pilot ping PEER``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from ._common import caller, command, node, path_facts, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "ping", run, "measure the round trip to a peer")
    parser.add_argument("peer", help="hostname, address, or node id")
    parser.add_argument("-c", "--count", type=int, default=4, help="default %(default)s")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S")
    caller(parser, 5.0)


async def run(options: argparse.Namespace) -> None:
    """Pings."""
    async with node(options) as self:
        for number in range(options.count):
            if number:
                await asyncio.sleep(options.interval)
            pong = await self.ping(options.peer, timeout=options.timeout)
            text = f"{pong.address} {pong.path} via {pong.endpoint} {path_facts(pong)}"
            show(options, asdict(pong), text)
