"""Our node and a Go daemon that cannot reach each other: everything goes through our beacon."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pilot_agent import Node
from support.godaemon import GoDaemon
from support.islands import Islands
from support.ours import Rendezvous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="links between namespaces need root"),
    pytest.mark.timeout(90),
]

ECHO = 7
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def far_go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoDaemon]:
    lab = tmp_path_factory.mktemp("far")
    with (
        Islands() as islands,
        Rendezvous(lab, "5.77.1.1:9000", listen="0.0.0.0:9000", prefix=islands.in_middle),
        GoDaemon(
            lab, "5.77.2.1:9000", "go-far", listen="5.77.2.2:4000", prefix=islands.in_far
        ) as go,
    ):
        yield go


@pytest_asyncio.fixture
async def near(tmp_path: Path, far_go: GoDaemon) -> AsyncIterator[Node]:  # noqa: ARG001
    name = f"near-{next(_numbers)}"
    async with Node.start(name, rendezvous="5.77.1.1:9000", home=tmp_path) as node:
        yield node


async def test_we_reach_the_daemon(far_go: GoDaemon, near: Node) -> None:
    pong = await near.ping("go-far", timeout=20)
    assert (pong.address, pong.path) == (far_go.address, "relay")
    await near.send("go-far", "by relay", timeout=20)
    assert far_go.inbox()[-1]["data"] == "by relay"
    data = bytes(range(256)) * 4096
    async with await near.open_stream("go-far", ECHO) as stream:
        for start in range(0, len(data), 65536):
            await stream.write(data[start : start + 65536])
            assert await stream.readexactly(65536) == data[start : start + 65536]


async def test_the_daemon_reaches_us(far_go: GoDaemon, near: Node) -> None:
    answer = await far_go.json("ping", near.address, "--count", "2", timeout=40)
    assert answer["timeout"] is False
    assert len(answer["results"]) == 2
    peers = {peer["node_id"]: peer for peer in (await far_go.json("peers", "--all"))["peers"]}
    assert peers[near.node_id]["relay"] is True
    await far_go.json("send-message", near.address, "--data", "to the other side")
    assert (await near.recv(timeout=10)).text() == "to the other side"
