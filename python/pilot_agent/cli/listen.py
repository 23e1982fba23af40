"""``pilot listen NAME``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._common import command, node, payload_text, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "listen", run, "print the messages that arrive, until interrupted")
    parser.add_argument("hostname", help="name that others send to")
    parser.add_argument("--listen", metavar="ADDR", help="UDP address to bind")
    parser.add_argument("--inbox", metavar="DIR", help="directory that received files go to")
    parser.add_argument(
        "--capability", action="append", default=[], metavar="TEXT", help="may be repeated"
    )
    parser.add_argument("-c", "--count", type=int, help="end after so many messages")


async def run(options: argparse.Namespace) -> None:
    """Prints messages."""
    more = {"listen": options.listen, "inbox": options.inbox, "capabilities": options.capability}
    async with node(options, **more) as self:
        print(f"{self.hostname} is {self.address}", file=sys.stderr, flush=True)
        received = 0
        async for message in self.messages():
            content = str(message.path) if message.path else None
            content = content or payload_text(message.kind, message.payload)
            value = {
                "sender": message.sender,
                "sender_hostname": message.sender_hostname,
                "kind": message.kind,
                "filename": message.filename,
                "content": content,
            }
            show(options, value, f"{message.sender_hostname or message.sender}: {content}")
            received += 1
            if received == options.count:
                return
