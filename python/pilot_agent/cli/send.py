"""``pilot send PEER TEXT`` and ``pilot send PEER --file PATH``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent import InvalidArgument

from ._common import caller, command, node, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "send", run, "send a message, and wait until the peer's node has it")
    parser.add_argument("peer", help="hostname, address, or node id")
    parser.add_argument("text", nargs="?", help="what to send")
    parser.add_argument("--file", metavar="PATH", help="a file to send instead")
    caller(parser, 10.0)


async def run(options: argparse.Namespace) -> None:
    """Sends."""
    if (options.text is None) == (options.file is None):
        message = "give a text to send, or --file PATH"
        raise InvalidArgument(message)
    async with node(options) as self:
        if options.file is not None:
            await self.send_file(options.peer, options.file, timeout=options.timeout)
        else:
            await self.send(options.peer, options.text, timeout=options.timeout)
        show(options, {"delivered": options.peer}, f"delivered to {options.peer}")
