"""Messages: what is sent arrives once, in order, as what it was."""

from __future__ import annotations

import array
import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import (
    InvalidArgument,
    Message,
    NodeClosed,
    PayloadTooLarge,
    PeerNotFound,
    PilotError,
)
from support.waits import soon, started

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_agent import Node
    from pilot_agent.testing import LocalNetwork

PAYLOADS: list[tuple[Any, str, bytes]] = [
    (b"\x00\xff", "bytes", b"\x00\xff"),
    (b"", "bytes", b""),
    (bytearray(b"array"), "bytes", b"array"),
    (memoryview(b"a view")[2:], "bytes", b"view"),
    (array.array("B", [1, 2, 3]), "bytes", b"\x01\x02\x03"),
    (b"x" * 100_000, "bytes", b"x" * 100_000),
    ("text, äöü €", "text", "text, äöü €".encode()),
    ({"pair": "EUR/USD", "rates": [1.5, None, True]}, "json", b""),
    ([1, 2], "json", b"[1,2]"),
    (7, "json", b"7"),
    (None, "json", b"null"),
]


@pytest.mark.parametrize(("payload", "kind", "travels"), PAYLOADS)
async def test_every_payload_arrives_as_what_it_was(
    pair: tuple[Node, Node], payload: Any, kind: str, travels: bytes
) -> None:
    alice, bob = pair
    await alice.send("bob", payload)
    message = await soon(bob.recv())
    assert message.sender == alice.address
    assert message.sender_hostname in {"alice", None}  # as the registry has told by then
    assert message.kind == kind
    if travels or kind == "bytes":
        assert message.payload == travels
    if kind == "json":
        assert message.json() == payload
    elif kind == "text":
        assert message.text() == payload


async def test_what_json_does_not_take_is_refused_before_it_travels(
    pair: tuple[Node, Node],
) -> None:
    nonsense: Any = {1, 2}
    with pytest.raises(TypeError, match="cannot send set"):
        await pair[0].send("bob", nonsense)
    with pytest.raises(ValueError, match="JSON compliant"):
        await pair[0].send("bob", float("nan"))


async def test_a_peer_is_a_hostname_an_address_or_a_number(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    for peer in ("bob", bob.address, bob.node_id):
        await alice.send(peer, str(peer))
        assert (await soon(bob.recv())).text() == str(peer)


@pytest.mark.parametrize("peer", [0, -1, 2**32, ""])
async def test_a_peer_that_cannot_be_is_an_invalid_argument(
    pair: tuple[Node, Node], peer: Any
) -> None:
    with pytest.raises(InvalidArgument):
        await pair[0].send(peer, "x")


async def test_a_peer_of_another_type_is_a_type_error(pair: tuple[Node, Node]) -> None:
    peer: Any = 1.5
    with pytest.raises(TypeError, match="hostname or address"):
        await pair[0].send(peer, "x")


async def test_messages_of_one_sender_keep_their_order(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    for number in range(100):
        await alice.send("bob", number)
    received = [(await soon(bob.recv())).json() for _ in range(100)]
    assert received == list(range(100))


async def test_concurrent_sends_all_arrive_once(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    await soon(asyncio.gather(*(alice.send("bob", number) for number in range(200))))
    received = [(await soon(bob.recv())).json() for _ in range(200)]
    assert sorted(received) == list(range(200))


async def test_a_node_does_not_send_to_itself(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    with pytest.raises(InvalidArgument, match="this node itself"):
        await alice.send("alice", "note to self")


async def test_messages_that_waited_come_before_those_that_arrive(
    pair: tuple[Node, Node],
) -> None:
    alice, bob = pair
    await alice.send("bob", 1)
    await alice.send("bob", 2)
    seen = []

    async def consume() -> None:
        async for message in bob.messages():
            seen.append(message.json())
            if len(seen) == 3:
                return

    consumer = asyncio.create_task(consume())
    await alice.send("bob", 3)
    await soon(consumer)
    assert seen == [1, 2, 3]


async def test_several_consumers_share_the_messages(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    consumers = [await started(bob.recv()) for _ in range(3)]
    for number in range(3):
        await alice.send("bob", number)
    messages = await soon(asyncio.gather(*consumers))
    assert sorted(message.json() for message in messages) == [0, 1, 2]


async def test_messages_end_when_the_node_closes(pair: tuple[Node, Node]) -> None:
    _, bob = pair

    async def consume() -> list[Message]:
        return [message async for message in bob.messages()]

    consumer = await started(consume())
    await bob.close()
    assert await soon(consumer) == []


async def test_recv_gives_up_after_its_timeout(pair: tuple[Node, Node]) -> None:
    with pytest.raises(TimeoutError, match=r"no message within 0\.01 s"):
        await pair[0].recv(timeout=0.01)


async def test_a_large_message_arrives_whole(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    payload = bytes(range(256)) * 16384
    await soon(alice.send("bob", payload), 30)
    assert (await soon(bob.recv())).payload == payload


async def test_a_message_over_the_peers_limit_is_refused(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    await network.node("bob", max_message=1000)
    await alice.send("bob", b"x" * 1000)
    with pytest.raises(ValueError, match=r"bob refused it.*1001"):
        await alice.send("bob", b"x" * 1001)


async def test_a_message_that_no_peer_takes_is_refused_with_its_numbers(
    pair: tuple[Node, Node],
) -> None:
    too_much = bytes((64 << 20) + 1)
    with pytest.raises(PayloadTooLarge, match="exceeds the limit") as caught:
        await pair[0].send("bob", too_much)
    assert (caught.value.size, caught.value.limit) == (len(too_much), len(too_much) - 1)


async def test_an_unknown_peer_is_not_found(pair: tuple[Node, Node]) -> None:
    with pytest.raises(PeerNotFound, match="nobody is not known") as caught:
        await pair[0].send("nobody", "x")
    assert caught.value.peer == "nobody"
    assert caught.value.rendezvous


async def test_a_file_lands_in_the_inbox(pair: tuple[Node, Node], tmp_path: Path) -> None:
    alice, bob = pair
    source = tmp_path / "report.txt"
    source.write_bytes(b"figures" * 10_000)
    await alice.send_file("bob", source)
    message = await soon(bob.recv())
    assert (message.kind, message.filename) == ("file", "report.txt")
    assert message.path is not None
    assert message.path.read_bytes() == source.read_bytes()


async def test_a_file_that_is_not_there_says_so(pair: tuple[Node, Node], tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="missing"):
        await pair[0].send_file("bob", tmp_path / "missing")


async def test_a_handler_takes_messages_and_its_errors_are_logged(
    pair: tuple[Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = pair
    handled = asyncio.Event()

    @bob.on_message(concurrency=1)
    async def handle(message: Message) -> None:
        if message.text() == "bad":
            message.json()
        handled.set()

    with caplog.at_level(logging.ERROR, "pilot_agent"):
        await alice.send("bob", "bad")
        await alice.send("bob", "good")
        await soon(handled.wait())
    [record] = caplog.records
    assert alice.address in record.getMessage()
    with pytest.raises(InvalidArgument, match="already"):
        bob.on_message(handle)


async def test_sending_from_a_closed_node_says_so(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    await alice.close()
    for attempt in (alice.send("bob", "x"), alice.recv(), alice.ping("bob"), alice.find("x")):
        with pytest.raises(NodeClosed, match="closed"):
            await attempt
