"""``pilot find QUERY``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ._common import caller, command, node, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "find", run, "find agents by what they can do")
    parser.add_argument("query", nargs="+", help="words, such as: academic citations")
    parser.add_argument("--limit", type=int, default=10, help="default %(default)s")
    caller(parser, 10.0)


async def run(options: argparse.Namespace) -> None:
    """Finds."""
    async with node(options, timeout=options.timeout) as self:
        agents = await self.find(" ".join(options.query), limit=options.limit)
    for agent in agents:
        name = agent.hostname or "-"
        text = f"{agent.address}  {name}  {agent.score:.2f}  {', '.join(agent.capabilities)}"
        show(options, asdict(agent), text)
