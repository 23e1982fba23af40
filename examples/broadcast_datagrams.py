"""Sends a datagram to every agent that listens, found by capability, and counts the answers.

Run `python examples/broadcast_datagrams.py`. Datagrams are encrypted like everything else, but may
be lost: fit for what is soon outdated, such as a clock, a heartbeat or a position.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from pilot_agent import Node

PORT = 5000
CAPABILITY = "clock comparison"
LISTENERS = 4
PATIENCE = 2.0


async def main() -> None:
    async with contextlib.AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(
                Node.start(f"listener-{number}", capabilities=[CAPABILITY])
            )
            for number in range(LISTENERS)
        ]
        caller = await stack.enter_async_context(Node.start("caller"))
        tasks = [asyncio.create_task(answer(node)) for node in listeners]
        await broadcast(caller)
        for task in tasks:
            task.cancel()


async def answer(node: Node) -> None:
    """Send every datagram back, with the time of this node in it."""
    async with node.datagrams(PORT) as port:
        async for datagram in port:
            now = f"{datagram.data.decode()} {time.time():.6f}".encode()
            await port.send(datagram.sender, datagram.port, now)


async def broadcast(node: Node) -> None:
    """Ask everybody for the time at once and print what comes back within two seconds."""
    agents = await node.find(CAPABILITY, limit=LISTENERS)
    names = {agent.address: agent.hostname or agent.address for agent in agents}
    async with node.datagrams(PORT) as port:
        for agent in agents:
            await port.send(agent.address, PORT, f"{time.time():.6f}".encode())
        answered = set[str]()
        deadline = time.monotonic() + PATIENCE
        while len(answered) < len(agents) and (left := deadline - time.monotonic()) > 0:
            try:
                datagram = await asyncio.wait_for(port.recv(), left)
            except asyncio.TimeoutError:
                break
            asked, told = map(float, datagram.data.split())
            answered.add(datagram.sender)
            trip, ahead = time.time() - asked, told - asked
            print(f"{names[datagram.sender]:<12} {trip * 1000:7.2f} ms", end="  ")
            print(f"clock ahead by at most {ahead * 1000:.2f} ms")
    print(f"{len(answered)} of {len(agents)} answered")


if __name__ == "__main__":
    asyncio.run(main())
