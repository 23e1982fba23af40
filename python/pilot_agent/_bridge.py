"""How native results reach an event loop.

One `Bridge` per loop: a queue that I/O threads fill, and a descriptor that the loop watches. One
`Scope` per node: what the node has under way on that loop, so that closing it ends all of that.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

from . import _native
from .errors import ForkedProcessError, NodeClosed

T = TypeVar("T")

Target: TypeAlias = Callable[[Any, BaseException | None], None]
"""Called on the loop's thread with the value or the error of a completion."""

# The keys are ids of loops. A bridge holds its loop, so an id stays unique while it is in here.
_bridges: weakref.WeakValueDictionary[int, Bridge] = weakref.WeakValueDictionary()


class Bridge:
    """The completion queue of one event loop, and who waits for what."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.users = 0
        self.process = _native.process()
        self._targets: dict[int, Target] = {}
        self._tokens = itertools.count(1)
        self.native = _native.Bridge()
        try:
            loop.add_reader(self.native.fileno(), self.drain)
        except NotImplementedError:
            # A loop that watches no descriptors, such as the proactor loop.
            self.native = _native.Bridge(partial(_ring, weakref.ref(self)))

    @classmethod
    def acquire(cls) -> Bridge:
        """Returns the bridge of the running loop, made on first use."""
        loop = asyncio.get_running_loop()
        bridge = _bridges.get(id(loop))
        if bridge is None or bridge.process != _native.process():
            bridge = _bridges[id(loop)] = cls(loop)
        bridge.users += 1
        return bridge

    def release(self) -> None:
        """Undoes one `acquire`; the last one stops watching."""
        self.users -= 1
        if self.users == 0:
            _bridges.pop(id(self.loop), None)
            descriptor = self.native.fileno()
            if descriptor >= 0 and not self.loop.is_closed():
                self.loop.remove_reader(descriptor)

    def token(self) -> int:
        """Returns a number that no other completion of this loop has."""
        return next(self._tokens)

    def expect(self, token: int, target: Target) -> None:
        """Calls `target` once when `token` completes."""
        self._targets[token] = target

    def forget(self, token: int) -> None:
        """Ignores `token` when it completes."""
        self._targets.pop(token, None)

    def drain(self) -> None:
        """Hands out everything that has completed."""
        targets = self._targets
        for token, value, error in self.native.drain():
            target = targets.pop(token, None)
            if target is not None:
                target(value, error)


def _ring(bridge: weakref.ref[Bridge]) -> None:
    target = bridge()
    if target is not None:
        target.loop.call_soon_threadsafe(target.drain)


def _settle(future: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class Scope:
    """Everything that one node has under way on its loop."""

    def __init__(self) -> None:
        self.bridge = Bridge.acquire()
        self.loop = self.bridge.loop
        self.is_closed = False
        self._process = _native.process()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._closers: set[Callable[[], None]] = set()
        try:
            self._lease = _native.Lease()
        except BaseException:
            self.bridge.release()
            raise

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that the node was started in."""
        return self._process == _native.process()

    def check(self) -> None:
        """Raises unless this is the process, and the loop, that the node belongs to."""
        if not self.is_ours:
            message = "this node belongs to the process that was forked; start one in the child"
            raise ForkedProcessError(message)
        if self.is_closed:
            raise NodeClosed
        if asyncio.get_running_loop() is not self.loop:
            message = "this node belongs to another event loop; start one in each loop"
            raise RuntimeError(message)

    async def run(
        self,
        start: Callable[[_native.Bridge, int], tuple[_native.Op | None, T | None]],
        *,
        join: bool = False,
    ) -> T:
        """Runs an operation: `start(bridge, token)` begins it, or does it at once.

        Cancelling drops the operation in the native part; with `join`, what it held is free again
        when this raises `CancelledError`.
        """
        self.check()
        token = self.bridge.token()
        op, value = start(self.bridge.native, token)
        if op is None:
            return value  # type: ignore[return-value]
        future: asyncio.Future[T] = self.loop.create_future()
        self.bridge.expect(token, partial(_settle, future))
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)
            self.bridge.forget(token)
            if future.cancelled():
                if join:
                    op.cancel_and_join()
                    self.bridge.drain()  # lets go of a result that came all the same
                else:
                    op.cancel()

    def on_close(self, closer: Callable[[], None]) -> None:
        """Calls `closer` when the node closes."""
        self._closers.add(closer)

    def not_on_close(self, closer: Callable[[], None]) -> None:
        """Undoes `on_close`."""
        self._closers.discard(closer)

    def wait_for(self, future: asyncio.Future[Any]) -> None:
        """Ends `future` with an error if the node closes first."""
        self._waiting.add(future)

    def wait_no_more(self, future: asyncio.Future[Any]) -> None:
        """Undoes `wait_for`."""
        self._waiting.discard(future)

    def close(self) -> None:
        """Ends what is still under way, then joins the native threads if nobody needs them.

        The order matters: results that exist are handed out before the rest is ended.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self.bridge.drain()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(NodeClosed())
        for closer in list(self._closers):
            closer()
        self._closers.clear()
        self._lease.release()
        self.bridge.release()


class Signal:
    """Waits on one native ``poll_*``; any number of tasks may, with one registration.

    Nothing is taken from the native part while waiting, so a cancelled wait loses nothing.
    """

    __slots__ = ("_alarm", "_scope", "_token", "_waiters")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._token = scope.bridge.token()
        self._alarm = scope.bridge.native.alarm(self._token)
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits."""
        return bool(self._waiters)

    async def take(self, poll: Callable[[_native.Alarm], T | None]) -> T:
        """Polls until there is a value that is not `None`."""
        scope = self._scope
        scope.check()
        while (value := poll(self._alarm)) is None:
            future: asyncio.Future[None] = scope.loop.create_future()
            scope.bridge.expect(self._token, self._fire)
            scope.wait_for(future)
            self._waiters.append(future)
            try:
                await future
            finally:
                scope.wait_no_more(future)
                if future in self._waiters:
                    self._waiters.remove(future)
                if not self._waiters:
                    scope.bridge.forget(self._token)
        return value

    async def ready(self, poll: Callable[[_native.Alarm], bool]) -> None:
        """Polls until it says yes."""
        await self.take(lambda alarm: poll(alarm) or None)

    def wake(self) -> None:
        """Has the waiting tasks poll again."""
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _fire(self, _value: object, _error: BaseException | None) -> None:
        self.wake()


# Asked for instead of the process id, which costs a system call.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.after_fork)

# Threads of the runtime must not outlive the interpreter they may still call into.
atexit.register(_native.shutdown)
