"""``pilot paths PEER``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pilot_agent import NetworkChanged, PilotError

from ._common import caller, command, node, path_facts, show

if TYPE_CHECKING:
    import argparse

    from pilot_agent import Node, PathChanged, PathInfo

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(
        commands, "paths", run, "print the paths to a peer, and then each change, until interrupted"
    )
    parser.add_argument("peer", help="hostname, address, or node id")
    parser.add_argument(
        "-c", "--count", type=int, metavar="N", help="end after so many changes; 0: watch none"
    )
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="pings between, %(default)g s"
    )
    caller(parser, 5.0)


async def run(options: argparse.Namespace) -> None:
    """Prints paths and changes."""
    async with node(options) as self:
        info = await self.path(options.peer, timeout=options.timeout)
        for number, path in enumerate(info.candidates):
            text = f"{'  ' if number else ''}{path.kind} via {path.endpoint} {path_facts(path)}"
            show(options, {"event": "path", "peer": info.address, **asdict(path)}, text.rstrip())
        if options.count != 0:
            await _watch(self, info, options)


async def _watch(self: Node, info: PathInfo, options: argparse.Namespace) -> None:
    pinging = asyncio.create_task(_keep_in_use(self, options))
    changes = 0
    try:
        async with self.events() as events:
            async for event in events:
                if isinstance(event, NetworkChanged):
                    text = f"this node is seen at {event.observed_addr}"
                    _show(options, event, {"event": "network changed"}, text)
                elif event.peer == info.address:
                    text = f"{event.new} (was {event.old})" if event.old else str(event.new)
                    _show(options, event, {"event": "path changed"}, text)
                    changes += 1
                    if changes == options.count:
                        return
    finally:
        pinging.cancel()


async def _keep_in_use(self: Node, options: argparse.Namespace) -> None:
    """A path that nobody uses need not be a good one."""
    while True:
        with contextlib.suppress(PilotError):
            await self.ping(options.peer, timeout=options.timeout)
        await asyncio.sleep(options.interval)


def _show(
    options: argparse.Namespace,
    event: PathChanged | NetworkChanged,
    value: dict[str, Any],
    text: str,
) -> None:
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    show(options, {**value, **asdict(event)}, f"{when} {text}")
