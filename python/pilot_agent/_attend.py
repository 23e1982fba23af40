"""The event loop receives for a node, instead of being woken by a thread that does."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from .errors import PilotError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from . import _native
    from ._bridge import Scope

__all__ = ["Attendance"]


class Attendance:
    """Watches a node's socket, unless there is so much to receive that a thread does it better.

    The loop must not keep a node alive that nobody closed, so it only knows this weakly; and what
    it watches is a descriptor of our own, which outlives its registration.
    """

    def __init__(self, scope: Scope, native: _native.Node) -> None:
        self._scope = scope
        self._native = native
        self._token = scope.bridge.token()
        self._alarm = scope.bridge.native.alarm(self._token)
        descriptor = native.descriptor()
        self._descriptor = os.dup(descriptor) if descriptor >= 0 else -1
        self._finalizer = weakref.finalize(self, _end, scope.loop, self._descriptor, os.getpid())
        self._finalizer.atexit = False
        if self._descriptor >= 0:
            self._watch()

    def stop(self) -> None:
        """Leaves everything to the node. Idempotent."""
        self._scope.bridge.forget(self._token)
        self._finalizer()

    def _watch(self, _value: object = None, _error: object = None) -> None:
        if not self._finalizer.alive:
            return
        self._scope.bridge.expect(self._token, self._watch)
        try:
            if not self._native.poll_attend(self._alarm):
                return
            self._scope.loop.add_reader(self._descriptor, _weakly(self))
        except (PilotError, NotImplementedError):
            pass  # closed, or a loop that watches no descriptors: the node receives
        self._scope.bridge.forget(self._token)

    def _on_readable(self) -> None:
        native, bridge = self._native, self._scope.bridge
        try:
            stays = native.attend(bridge.native)
        except PilotError:
            return
        try:
            bridge.drain()
        finally:
            native.send_gathered()
        if not stays and self._finalizer.alive:
            self._scope.loop.remove_reader(self._descriptor)
            self._watch()


def _weakly(attendance: Attendance) -> Callable[[], None]:
    known = weakref.ref(attendance)

    def on_readable() -> None:
        attendance = known()
        if attendance is not None:
            attendance._on_readable()  # noqa: SLF001 - it is the same class

    return on_readable


def _end(loop: asyncio.AbstractEventLoop, descriptor: int, pid: int) -> None:
    # A forked child shares the selector with its parent: removing it there removes it here.
    if descriptor < 0 or pid != os.getpid():
        return
    if not loop.is_closed():
        loop.remove_reader(descriptor)
    os.close(descriptor)
