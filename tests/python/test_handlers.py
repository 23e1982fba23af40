"""Handlers run in tasks and contexts as any coroutine does, although most need no task made."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import Node, Request, RequestFailed
from support.waits import soon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="untouched")


async def at_once() -> None:
    """What a handler does that never waits."""


async def one_turn() -> None:
    await asyncio.sleep(0)


async def a_while() -> None:
    await asyncio.sleep(0.001)


WAITS = pytest.mark.parametrize("wait", [at_once, one_turn, a_while])


@WAITS
async def test_each_handler_has_a_context_of_its_own(
    pair: tuple[Node, Node], wait: Callable[[], Awaitable[None]]
) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> list[str]:
        before = VARIABLE.get()
        VARIABLE.set(request.text())
        await wait()
        return [before, VARIABLE.get()]

    for round_ in range(3):
        asked = [alice.request("bob", f"{round_}.{number}") for number in range(10)]
        for number, reply in enumerate(await soon(asyncio.gather(*asked))):
            assert reply.json() == ["untouched", f"{round_}.{number}"]


@WAITS
async def test_a_handler_has_a_current_task_for_all_of_its_life(
    pair: tuple[Node, Node], wait: Callable[[], Awaitable[None]]
) -> None:
    alice, bob = pair
    own = asyncio.current_task()

    @bob.on_request
    async def answer(_request: Request) -> bool:
        before = asyncio.current_task()
        await wait()
        return before is asyncio.current_task() and before not in {None, own}

    for _ in range(3):
        replies = await soon(asyncio.gather(*(alice.request("bob", b"") for _ in range(10))))
        assert all(reply.json() for reply in replies)
    assert asyncio.current_task() is own


async def test_handlers_that_wait_do_not_share_a_task(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    tasks: list[asyncio.Task[Any] | None] = []

    @bob.on_request
    async def answer(_request: Request) -> None:
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    for _ in range(20):
        await soon(alice.request("bob", b""))
    assert len(set(map(id, tasks))) == 20


async def test_a_handler_may_limit_its_time(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), float(request.text()))
        except asyncio.TimeoutError:
            return "in time"
        return "never"

    for limit in ("0", "0.001", "0", "0.001"):
        assert (await soon(alice.request("bob", limit))).text() == "in time"


async def test_a_handler_may_cancel_itself(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> str:
        if request.text() == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                return "cancelled"
        return "not cancelled"

    for _ in range(3):
        assert (await soon(alice.request("bob", "warm"))).text() == "not cancelled"
        assert (await soon(alice.request("bob", "cancel"))).text() == "cancelled"
        assert (await soon(alice.request("bob", "after"))).text() == "not cancelled"


@WAITS
async def test_what_a_handler_raises_reaches_the_caller(
    pair: tuple[Node, Node], wait: Callable[[], Awaitable[None]]
) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> bytes:
        await wait()
        raise LookupError(request.text())

    for _ in range(3):
        with pytest.raises(RequestFailed, match="LookupError: nothing"):
            await soon(alice.request("bob", "nothing"))


async def test_closing_the_node_cancels_a_handler_that_has_just_begun(
    pair: tuple[Node, Node],
) -> None:
    alice, bob = pair
    closing: list[asyncio.Task[None]] = []
    ends: list[str] = []

    @bob.on_request
    async def answer(request: Request) -> bytes:
        if request.text() == "close":
            # Cancels this task before the loop has come back to it.
            closing.append(asyncio.create_task(bob.close()))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                await asyncio.sleep(0)
                ends.append("and cleaned up")
                raise
        return b""

    await soon(alice.request("bob", "warm"))
    asking = asyncio.create_task(alice.request("bob", "close"))
    while not closing:
        await asyncio.sleep(0)
    await soon(closing[0])
    assert ends == ["cancelled", "and cleaned up"]
    asking.cancel()


async def test_another_node_may_close_while_requests_wait(pair: tuple[Node, Node]) -> None:
    """Closing drains what waits for the loop, inside a task: handlers must not run in that."""
    alice, bob = pair

    @bob.on_request
    async def answer(_request: Request) -> bool:
        return asyncio.current_task() is not None

    assert (await soon(alice.request("bob", b""))).json()
    asked = [asyncio.create_task(alice.request("bob", b"")) for _ in range(50)]
    await asyncio.sleep(0)
    await soon(alice.close())
    await asyncio.gather(*asked, return_exceptions=True)
    assert not bob.is_closed
