"""``pilot request PEER QUESTION``."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from ._common import caller, command, node, payload_text, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "request", run, "ask a peer and print its answer")
    parser.add_argument("peer", help="hostname, address, or node id")
    parser.add_argument("question", help="JSON, or else text")
    caller(parser, 10.0)


async def run(options: argparse.Namespace) -> None:
    """Asks."""
    question: Any = options.question
    with contextlib.suppress(ValueError):  # then it is text
        question = json.loads(question)
    async with node(options) as self:
        reply = await self.request(options.peer, question, timeout=options.timeout)
    text = payload_text(reply.kind, reply.payload)
    answer = reply.json() if reply.kind == "json" else text
    show(options, {"sender": reply.sender, "kind": reply.kind, "answer": answer}, text)
