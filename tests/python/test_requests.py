"""Requests: a question, a handler, an answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import InvalidArgument, PilotError, Request, RequestFailed, RequestTimeout
from support.waits import soon

if TYPE_CHECKING:
    from pilot_agent import Node
    from pilot_agent.testing import LocalNetwork


async def test_the_handlers_answer_comes_back(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> Any:
        assert request.sender == alice.address
        return {"kind": request.kind, "text": request.text()}

    reply = await alice.request("bob", "what is it?")
    assert (reply.sender, reply.kind) == (bob.address, "json")
    assert reply.json() == {"kind": "text", "text": "what is it?"}


@pytest.mark.parametrize("answer", [b"\x00\x01", "text", {"a": [1]}, None, b"x" * 300_000])
async def test_a_handler_answers_with_any_payload(pair: tuple[Node, Node], answer: Any) -> None:
    alice, bob = pair

    @bob.on_request
    async def handle(request: Request) -> Any:
        del request
        return answer

    reply = await alice.request("bob", b"")
    given = {"bytes": lambda: reply.payload, "text": reply.text, "json": reply.json}[reply.kind]()
    assert given == answer


async def test_answers_find_their_questions(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def square(request: Request) -> int:
        number: int = request.json()
        # Later questions are answered first.
        for _ in range(100 - number):
            await asyncio.sleep(0)
        return number * number

    replies = await soon(asyncio.gather(*(alice.request("bob", n) for n in range(100))))
    assert [reply.json() for reply in replies] == [n * n for n in range(100)]


async def test_a_handler_that_raises_is_logged_once_and_told_to_the_caller(
    pair: tuple[Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = pair

    @bob.on_request
    async def fail(request: Request) -> str:
        raise KeyError(request.text())

    with (
        caplog.at_level(logging.ERROR, "pilot_agent"),
        pytest.raises(RequestFailed, match=r"KeyError: 'pears'") as caught,
    ):
        await alice.request("bob", "pears")
    assert caught.value.peer == "bob"
    [record] = caplog.records
    assert record.exc_info is not None


async def test_a_handler_that_answers_nonsense_is_told_to_the_caller(
    pair: tuple[Node, Node],
) -> None:
    alice, bob = pair

    @bob.on_request
    async def nonsense(request: Request) -> Any:
        del request
        return {1, 2}

    with pytest.raises(RequestFailed, match="cannot send set"):
        await alice.request("bob", "x")


async def test_a_peer_without_a_handler_says_so(pair: tuple[Node, Node]) -> None:
    with pytest.raises(RequestFailed, match="handler"):
        await pair[0].request("bob", "x")


async def test_a_slow_handler_times_out_with_the_limit(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def never(request: Request) -> str:
        del request
        await asyncio.Event().wait()
        return ""

    with pytest.raises(RequestTimeout, match="request of bob") as caught:
        await alice.request("bob", "x", timeout=0.2)
    assert caught.value.after == pytest.approx(0.2)
    assert isinstance(caught.value, TimeoutError)


async def test_no_more_handlers_run_than_allowed(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    running = most = 0

    @bob.on_request(concurrency=3)
    async def count(request: Request) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return request.payload

    await soon(asyncio.gather(*(alice.request("bob", b"") for _ in range(30))))
    assert most == 3


async def test_requests_and_messages_do_not_mix(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> str:
        return request.text()

    await alice.send("bob", "message")
    assert (await alice.request("bob", "request")).text() == "request"
    assert (await soon(bob.recv())).text() == "message"


async def test_a_handler_may_ask_the_one_who_asked(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @alice.on_request
    async def name(request: Request) -> str:
        return f"alice, to {request.sender}"

    @bob.on_request
    async def ask_back(request: Request) -> bytes:
        return (await bob.request(request.sender, "who are you?")).payload

    assert (await soon(alice.request("bob", "hello"))).text() == f"alice, to {bob.address}"


async def test_a_second_handler_is_refused(pair: tuple[Node, Node]) -> None:
    _, bob = pair

    @bob.on_request
    async def first(request: Request) -> bytes:
        return request.payload

    with pytest.raises(InvalidArgument, match="already"):
        bob.on_request(first)
    with pytest.raises(InvalidArgument, match="concurrency"):
        pair[0].on_request(concurrency=0)(first)


async def test_a_private_peer_answers_nobody_it_does_not_trust(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    hermit = await network.node("hermit", public=False)

    @hermit.on_request
    async def answer(request: Request) -> bytes:
        return request.payload

    with pytest.raises(PilotError):
        await alice.request("hermit", "x", timeout=3)
