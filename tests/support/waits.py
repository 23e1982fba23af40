"""Bounded waits: a test that would hang fails and says where."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["native_threads", "soon", "started", "until"]

T = TypeVar("T")

LIMIT = 10.0


async def soon(awaitable: Awaitable[T], limit: float = LIMIT) -> T:
    """What `awaitable` gives, within `limit` seconds."""
    return await asyncio.wait_for(awaitable, limit)


async def until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Returns when the condition holds, which nothing tells us of."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def started(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has run up to where it has to wait."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    assert not task.done(), "it did not have to wait"
    return task


def native_threads(expected: int | None = None) -> int:
    """Threads that Python did not start.

    A thread that was joined is gone for everybody but /proc, which may show it a moment longer:
    so this looks again until there are as many as `expected`.
    """
    deadline = time.monotonic() + 2
    while True:
        count = len(list(Path("/proc/self/task").iterdir())) - threading.active_count()
        if expected is None or count == expected or time.monotonic() > deadline:
            return count
        time.sleep(0.001)
