"""Our node and a Go daemon over links that lose, delay and reorder, in both roles.

Nothing here says how fast it must be, only that all of it arrives, unchanged and in bounded time.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from netlab import Lab, Topology, missing
from pilot_agent import Node
from support.echo import MIB, echo
from support.godaemon import GoDaemon
from support.ours import Rendezvous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(150),
]

ECHO = 7
LIMIT = 60.0
# A round trip of 20 ms. Packets held back are a few places late, as by two ways of unequal length.
LINKS = {
    "1%": ("rate=100mbit,delay=10ms,loss=1%,seed=1", 1500),
    "3%": ("rate=100mbit,delay=10ms,loss=3%,seed=2", 1500),
    "bursts": ("rate=100mbit,delay=10ms,loss=1%/6,seed=3", 1500),
    "reordering": ("rate=100mbit,delay=10ms,loss=0.5%,reorder=2%/3ms,duplicate=1%,seed=4", 1500),
    "narrow": ("rate=20mbit,delay=10ms,jitter=4ms,loss=1%,corrupt=0.2%,seed=5", 1280),
}

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=LINKS)
def link(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two hosts, and the first is this process."""
    spec, mtu = LINKS[request.param]
    with Lab(Topology.line("us", "them", spec, mtu=mtu), here="us") as lab:
        yield lab
        lost = [lab.wire("us", "them").counters(toward).lost for toward in ("us", "them")]
        assert min(lost) > 0, "the link was too good"


@pytest.fixture(scope="module")
def far_rendezvous(link: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendezvous]:
    with Rendezvous(tmp_path_factory.mktemp("far"), f"{link.address('us')}:9000") as server:
        yield server


@pytest.fixture(scope="module")
def far_go(link: Lab, far_rendezvous: Rendezvous) -> Iterator[GoDaemon]:
    with GoDaemon(
        far_rendezvous.home.parent,
        far_rendezvous.address,
        "go-far",
        listen=f"{link.address('them')}:4000",
        prefix=link.prefix("them"),
    ) as go:
        yield go


@pytest_asyncio.fixture
async def near(
    tmp_path: Path,
    far_rendezvous: Rendezvous,
    far_go: GoDaemon,  # noqa: ARG001  (there before we are)
) -> AsyncIterator[Node]:
    name = f"near-{next(_numbers)}"
    async with Node.start(name, rendezvous=far_rendezvous.address, home=tmp_path) as node:
        yield node


async def test_we_go_there(far_go: GoDaemon, near: Node, tmp_path: Path) -> None:
    pong = await near.ping("go-far", timeout=LIMIT)
    assert (pong.address, pong.path) == (far_go.address, "direct")
    already = len(far_go.inbox())
    for number in range(20):
        await near.send("go-far", f"message {number}", timeout=LIMIT)
    said = [message["data"] for message in far_go.inbox()[already:]]
    assert said == [f"message {number}" for number in range(20)]
    async with await near.open_stream("go-far", ECHO) as stream:
        await echo(stream, 2 * MIB)
    source = tmp_path / "figures.csv"
    source.write_bytes(random.Random(1).randbytes(MIB))
    await near.send_file("go-far", source, timeout=LIMIT)
    assert far_go.received()[-1].read_bytes() == source.read_bytes()


async def test_they_come_here(far_go: GoDaemon, near: Node, tmp_path: Path) -> None:
    for number in range(5):
        await far_go.json("send-message", near.address, "--data", f"message {number}")
    messages = [await near.recv(timeout=LIMIT) for _ in range(5)]
    assert [message.text() for message in messages] == [f"message {n}" for n in range(5)]
    answer = await far_go.json("bench", near.address, "2", timeout=LIMIT)
    assert answer["complete"] is True
    assert answer["recv_bytes"] == answer["sent_bytes"] == 2 * MIB
    source = tmp_path / "figures.csv"
    source.write_bytes(random.Random(2).randbytes(MIB))
    await far_go.json("send-file", near.address, str(source), timeout=LIMIT)
    message = await near.recv(timeout=LIMIT)
    assert message.path is not None
    assert message.path.read_bytes() == source.read_bytes()
