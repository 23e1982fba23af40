"""Runs a coroutine for each thing that arrives, so many at a time."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import PilotError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from . import _native
    from ._bridge import Scope

    Handling = Coroutine[Any, None, None]

T = TypeVar("T")


class Dispatcher(Generic[T]):
    """Takes items from a native ``poll_*`` and owns the tasks that handle them.

    While `limit` items are being handled nothing more is taken, so that what arrives waits where
    it is bounded.

    Most handlers never wait. Such a one needs no task of its own, nor another turn of the loop:
    it runs here and now, as a step of a spare task, in a context of its own. If it does wait, the
    spare task is its task from then on, and ends with it.
    """

    def __init__(
        self,
        scope: Scope,
        poll: Callable[[_native.Alarm, int], list[T]],
        handle: Callable[[T], Handling],
        limit: int,
    ) -> None:
        self._scope = scope
        self._loop = scope.loop
        self._poll = poll
        self._handle = handle
        self._limit = limit
        self._token = scope.bridge.token()
        self._alarm = scope.bridge.native.alarm(self._token)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare: _Spare | None = None
        self._is_stopped = False
        # Not here: handlers run in no other task.
        self._loop.call_soon(self._pump)

    async def stop(self) -> None:
        """Takes nothing more, cancels the tasks and waits for them; not for the current one."""
        self._is_stopped = True
        self._scope.bridge.forget(self._token)
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        if self._spare is not None:
            tasks.append(self._spare.task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pump(self, _value: object = None, _error: object = None) -> None:
        bridge = self._scope.bridge
        # A task that drains the bridge, such as one that closes another node, is not to be left.
        is_free = asyncio.current_task(self._loop) is None
        while not self._is_stopped and (room := self._limit - len(self._tasks)) > 0:
            bridge.expect(self._token, self._pump)
            try:
                items = self._poll(self._alarm, room)
            except PilotError:
                # The node is closed: `stop` comes, or has come.
                bridge.forget(self._token)
                return
            if not items:
                return
            bridge.forget(self._token)
            for item in items:
                if self._is_stopped:
                    return
                self._begin(item, is_free)

    def _begin(self, item: T, is_free: bool) -> None:
        spare = self._spare
        if is_free and spare is not None and spare.is_ready:
            if not spare.begin(self._handle(item)):
                return
            self._spare = None
            task = spare.task
        else:
            if spare is None or spare.task.done():
                self._spare = _Spare(self._loop)
            task = self._loop.create_task(self._handle(item))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._pump()


class _Spare:
    """A task that waits for a coroutine that has begun and has to wait."""

    __slots__ = ("_loop", "_parked", "_rest", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parked: asyncio.Future[None] | None = None
        self._rest: _Rest | None = None
        self.task = loop.create_task(self._run())
        # A loop may end without anybody having closed the node; that is said once, by the node.
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001

    @property
    def is_ready(self) -> bool:
        """Whether `begin` may be called."""
        return self._parked is not None and not self._parked.done()

    def begin(self, handling: Handling) -> bool:
        """Runs `handling` up to where it has to wait: then it is this task's; `True`."""
        context = copy_context()
        loop, task = self._loop, self.task
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001 - how a task of another kind runs
        try:
            waits_for = context.run(handling.send, None)
        except (StopIteration, asyncio.CancelledError):
            return False
        finally:
            asyncio.tasks._leave_task(loop, task)  # noqa: SLF001
        self._rest = _Rest(handling, context, waits_for)
        parked = self._parked
        assert parked is not None
        if not parked.done():
            parked.set_result(None)
        return True

    async def _run(self) -> None:
        self._parked = self._loop.create_future()
        try:
            await self._parked
        except asyncio.CancelledError as error:
            if self._rest is None:
                raise
            self._rest.error = error
        assert self._rest is not None
        await self._rest


class _Rest:
    """What is left of a coroutine that has begun elsewhere, in the context it has begun in."""

    __slots__ = ("_context", "_handling", "_waits_for", "error")

    def __init__(self, handling: Handling, context: Context, waits_for: object) -> None:
        self._handling = handling
        self._context = context
        self._waits_for = waits_for
        self.error: BaseException | None = None

    def __await__(self) -> Generator[object, None, None]:
        run, handling = self._context.run, self._handling
        waits_for, error = self._waits_for, self.error
        self._waits_for = self.error = None
        while True:
            if error is None:
                try:
                    yield waits_for
                except BaseException as thrown:  # noqa: BLE001 - all of them are the coroutine's
                    error = thrown
            try:
                if error is None:
                    waits_for = run(handling.send, None)
                else:
                    thrown_in, error = error, None
                    waits_for = run(handling.throw, thrown_in)
            except StopIteration:
                return
