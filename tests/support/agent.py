"""A node that says as JSON lines what happens to it, and does what JSON lines tell it to.

Out: `ready` (address), `message` (sender, kind, text, filename).
In, each with an `id` if the answer is to have it; `failed` (error) is an answer too:

    send TEXT, to PEER                           sent (peer)
    request TEXT, to PEER                        reply (text, seconds)
    ping PEER                                    pong (path, seconds)
    stream SECONDS, to PEER [, rate BYTES/S]     streamed (bytes, arrived, intact)
    echo SECONDS, to PEER [, rate BYTES/S]       the same, through the peer's echo service
    samples                                      sampled (samples: [when, bytes so far]...) of the
                                                 newest stream that came in
    info                                         told (info)
    renew HOSTNAME                               ready: another node, with another identity

A `timeout` may come with each. Requests are answered with themselves. Ends with its input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_agent import Node, PilotError, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pilot_agent import Listener, Stream

ECHO = 7
SINK = 4000
_CHUNK = 16384
# A stream that comes in is noted this often at most.
_SAMPLE_EVERY = 0.02

samples: list[tuple[float, int]] = []


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


async def sink(listener: Listener) -> None:
    """Takes streams, and answers each at its end with how much it was and its digest."""
    swallowing = set()
    async for stream in listener:
        task = asyncio.create_task(swallow(stream))
        swallowing.add(task)
        task.add_done_callback(swallowing.discard)


async def swallow(stream: Stream) -> None:
    samples.clear()
    samples.append((time.monotonic(), 0))
    digest, total = hashlib.sha256(), 0
    async with stream:
        try:
            while data := await stream.read(1 << 18):
                digest.update(data)
                total += len(data)
                if (now := time.monotonic()) - samples[-1][0] > _SAMPLE_EVERY:
                    samples.append((now, total))
            samples.append((time.monotonic(), total))
            await stream.write(f"{total} {digest.hexdigest()}".encode())
            await stream.send_eof()
        except PilotError as error:
            print(f"a stream that came in: {error}", file=sys.stderr)


async def pour(stream: Stream, seconds: float, rate: float | None) -> tuple[int, str]:
    """Writes for so long, at most so many bytes a second; how many they were, and their digest."""
    start, total, digest = time.monotonic(), 0, hashlib.sha256()
    while (elapsed := time.monotonic() - start) < seconds:
        if rate is not None and total > elapsed * rate:
            await asyncio.sleep((total - elapsed * rate) / rate)
            continue
        chunk = total.to_bytes(8, "big") * (_CHUNK // 8 if rate is None else 128)
        digest.update(chunk)
        await stream.write(chunk)
        total += len(chunk)
    return total, digest.hexdigest()


class Agent:
    """What commands do."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def send(self, do: dict[str, Any]) -> dict[str, object]:
        await self.node.send(do["to"], do["send"], timeout=do.get("timeout", 10))
        return {"event": "sent", "peer": do["to"]}

    async def request(self, do: dict[str, Any]) -> dict[str, object]:
        start = time.monotonic()
        reply = await self.node.request(do["to"], do["request"], timeout=do.get("timeout", 10))
        return {"event": "reply", "text": reply.text(), "seconds": time.monotonic() - start}

    async def ping(self, do: dict[str, Any]) -> dict[str, object]:
        start = time.monotonic()
        pong = await self.node.ping(do["ping"], timeout=do.get("timeout", 10))
        return {"event": "pong", "path": pong.path, "seconds": time.monotonic() - start}

    async def stream(self, do: dict[str, Any]) -> dict[str, object]:
        opening = self.node.open_stream(do["to"], SINK, timeout=do.get("timeout", 10))
        async with opening as stream:
            sent, digest = await pour(stream, do["stream"], do.get("rate"))
            await stream.send_eof()
            answer = (await stream.read()).decode().split()
        arrived = int(answer[0]) if answer else 0
        intact = answer == [str(sent), digest]
        return {"event": "streamed", "bytes": sent, "arrived": arrived, "intact": intact}

    async def echo(self, do: dict[str, Any]) -> dict[str, object]:
        opening = self.node.open_stream(do["to"], ECHO, timeout=do.get("timeout", 10))
        async with opening as stream:
            pouring = asyncio.create_task(pour(stream, do["echo"], do.get("rate")))
            digest, arrived = hashlib.sha256(), 0
            while not pouring.done() or arrived < pouring.result()[0]:
                reading = asyncio.create_task(stream.read(1 << 18))
                await asyncio.wait({reading, pouring}, return_when=asyncio.FIRST_COMPLETED)
                data = await reading
                digest.update(data)
                arrived += len(data)
                if not data:
                    break
            sent, expected = await pouring
        intact = digest.hexdigest() == expected
        return {"event": "streamed", "bytes": sent, "arrived": arrived, "intact": intact}

    async def samples(self, do: dict[str, Any]) -> dict[str, object]:  # noqa: ARG002
        return {"event": "sampled", "samples": samples}

    async def info(self, do: dict[str, Any]) -> dict[str, object]:  # noqa: ARG002
        return {"event": "told", "info": repr(self.node.info()), "peers": repr(self.node.peers())}


async def answer(
    method: Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, object]]], do: dict[str, Any]
) -> None:
    tag = {"id": do["id"]} if "id" in do else {}
    try:
        say(**await method(do), **tag)  # type: ignore[arg-type]
    except (PilotError, asyncio.IncompleteReadError) as error:
        say("failed", error=f"{type(error).__name__}: {error}", **tag)


async def live(home: Path, rendezvous: str, hostname: str, tag: dict[str, Any]) -> dict[str, Any]:
    """One node, until the input ends or asks for another one; that command, or nothing."""
    async with (
        Node.start(hostname, rendezvous=rendezvous, home=home) as node,
        node.listen(SINK) as listener,
    ):

        @node.on_request
        async def reflect(request: Request) -> bytes:
            return request.payload

        agent = Agent(node)
        tasks = {
            asyncio.create_task(report_messages(node)),
            asyncio.create_task(sink(listener)),
        }
        say("ready", address=node.address, **tag)
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                do: dict[str, Any] = json.loads(line)
                if "renew" in do:
                    return do
                commands = ("send", "request", "ping", "stream", "echo", "samples", "info")
                (method,) = (getattr(agent, name) for name in commands if name in do)
                task = asyncio.create_task(answer(method, do))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return {}


async def main(home: str, rendezvous: str, hostname: str) -> None:
    do: dict[str, Any] = {"renew": hostname}
    while do:
        tag = {"id": do["id"]} if "id" in do else {}
        do = await live(Path(home), rendezvous, do["renew"], tag)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
