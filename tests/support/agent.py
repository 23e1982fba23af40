"""A node that says as JSON lines what happens to it, and does what JSON lines tell it to.

Out: `ready` (address), `message` (sender, kind, text, filename), `sent` (peer), `failed` (error).
In: `{"send": TEXT, "to": PEER}`. Requests are answered with themselves. Ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from pilot_agent import Node, PilotError, Request


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def report_messages(node: Node) -> None:
    async for message in node.messages():
        say(
            "message",
            sender=message.sender,
            kind=message.kind,
            text=message.payload.decode(errors="replace"),
            filename=message.filename,
        )


async def main(home: str, rendezvous: str, hostname: str) -> None:
    async with Node.start(hostname, rendezvous=rendezvous, home=Path(home)) as node:

        @node.on_request
        async def echo(request: Request) -> bytes:
            return request.payload

        say("ready", address=node.address)
        messages = asyncio.create_task(report_messages(node))
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            try:
                await node.send(command["to"], command["send"])
                say("sent", peer=command["to"])
            except PilotError as error:
                say("failed", error=str(error))
        messages.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
