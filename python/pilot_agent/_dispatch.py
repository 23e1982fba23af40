"""Runs a coroutine for each thing that arrives, so many at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from .errors import PilotError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from . import _native
    from ._bridge import Scope

T = TypeVar("T")


class Dispatcher(Generic[T]):
    """Takes items from a native ``poll_*`` and owns the tasks that handle them.

    While `limit` tasks run nothing more is taken, so that what arrives waits where it is bounded.
    """

    def __init__(
        self,
        scope: Scope,
        poll: Callable[[_native.Alarm], T | None],
        handle: Callable[[T], Coroutine[object, object, None]],
        limit: int,
    ) -> None:
        self._scope = scope
        self._poll = poll
        self._handle = handle
        self._limit = limit
        self._token = scope.bridge.token()
        self._alarm = scope.bridge.native.alarm(self._token)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._pump()

    async def stop(self) -> None:
        """Takes nothing more, cancels the tasks and waits for them; not for the current one."""
        self._is_stopped = True
        self._scope.bridge.forget(self._token)
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pump(self, _value: object = None, _error: object = None) -> None:
        bridge = self._scope.bridge
        while not self._is_stopped and len(self._tasks) < self._limit:
            bridge.expect(self._token, self._pump)
            try:
                item = self._poll(self._alarm)
            except PilotError:
                # The node is closed: `stop` comes, or has come.
                bridge.forget(self._token)
                return
            if item is None:
                return
            bridge.forget(self._token)
            task = self._scope.loop.create_task(self._handle(item))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._pump()
