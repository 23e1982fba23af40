"""A thousand starts and closes leave nothing: descriptors, threads, tasks, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from pilot_agent import Node
from pilot_agent.testing import LocalNetwork
from support.waits import native_threads, soon

CYCLES = 1000
PAGE = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What this process uses."""

    descriptors: int
    threads: int
    tasks: int
    memory: int


def use(threads: int | None = None) -> Use:
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE
    return Use(
        len(list(Path("/proc/self/fd").iterdir())),
        native_threads(threads),
        len(asyncio.all_tasks()),
        resident,
    )


async def cycle(network: LocalNetwork, home: Path, number: int) -> None:
    async with Node.start(
        "alice", rendezvous=network.rendezvous, home=home, listen="127.0.0.1:0"
    ) as node:
        if number % 40 == 0:
            await soon(node.ping("bob"))
            await soon(node.send("bob", b"x" * 5000))
            async with node.open_stream("bob", 7) as stream:
                await stream.write(b"x")
                await soon(stream.readexactly(1))


@pytest.mark.timeout(180)
async def test_a_thousand_cycles_leave_nothing(tmp_path: Path) -> None:
    async with LocalNetwork() as network:
        await network.node("bob")
        for number in range(100):  # pools and caches fill
            await cycle(network, tmp_path, number)
        before = use()
        started = time.monotonic()
        for number in range(CYCLES):
            await cycle(network, tmp_path, number)
        after = use(before.threads)
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.tasks == before.tasks
    grown = after.memory - before.memory
    assert grown < 16 << 20, f"{grown / CYCLES:.0f} bytes a cycle"
    assert time.monotonic() - started < 120


async def test_the_last_close_ends_the_runtime_every_time(tmp_path: Path) -> None:
    async def once() -> None:
        async with (
            LocalNetwork() as network,
            Node.start("alice", rendezvous=network.rendezvous, home=tmp_path),
        ):
            pass

    await once()
    before = use(0)
    for _ in range(50):
        await once()
    after = use(0)
    assert after[:3] == before[:3] == (before.descriptors, 0, 1)
    assert after.memory - before.memory < 16 << 20
