"""Go daemons in compat mode (WebSocket over TLS, no UDP) through our rendezvous."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pilot_agent import Node
from support.echo import MIB, echo
from support.godaemon import GoDaemon
from support.waits import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from support.ours import Rendezvous

pytestmark = pytest.mark.timeout(120)

ECHO = 7
_numbers = itertools.count(1)


@contextlib.contextmanager
def compat_daemon(lab: Path, rendezvous: Rendezvous, hostname: str) -> Iterator[GoDaemon]:
    port = rendezvous.address.rpartition(":")[2]
    flags = (
        *("-transport", "compat", "-tls-trust", "system", "-proxy", "off"),
        *("-compat-beacon", f"wss://localhost:{port}/v1/compat"),
        *("-registry-tls", "-registry-trust", "system"),
    )
    certificates = {"SSL_CERT_FILE": str(rendezvous.certificate)}
    with GoDaemon(
        lab, f"localhost:{port}", hostname, flags=flags, environment=certificates
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def compat_go(lab: Path, rendezvous: Rendezvous) -> Iterator[GoDaemon]:
    with compat_daemon(lab, rendezvous, "go-compat") as daemon:
        yield daemon


async def test_the_daemon_says_that_it_uses_the_websocket(compat_go: GoDaemon) -> None:
    assert compat_go.info()["transport"] == "compat"


async def test_our_udp_node_reaches_a_compat_daemon(compat_go: GoDaemon, node: Node) -> None:
    pong = await node.ping(compat_go.hostname, timeout=20)
    assert (pong.address, pong.path) == (compat_go.address, "relay")
    await node.send(compat_go.hostname, "over the websocket", timeout=20)
    assert compat_go.inbox()[-1]["data"] == "over the websocket"
    async with await node.open_stream(compat_go.hostname, ECHO) as stream:
        await echo(stream, 4 * MIB)


async def test_a_compat_daemon_reaches_our_udp_node(compat_go: GoDaemon, node: Node) -> None:
    answer = await compat_go.json("ping", node.address, "--count", "3")
    assert answer["timeout"] is False
    assert len(answer["results"]) == 3
    await compat_go.json("send-message", node.address, "--data", "from behind the wall")
    assert (await node.recv(timeout=10)).text() == "from behind the wall"


async def test_two_compat_daemons_reach_each_other(
    lab: Path, rendezvous: Rendezvous, compat_go: GoDaemon
) -> None:
    with compat_daemon(lab, rendezvous, "go-compat-b") as other:
        answer = await compat_go.json("ping", other.address, "--count", "3")
        assert (answer["timeout"], len(answer["results"])) == (False, 3)
        await other.json("send-message", compat_go.address, "--data", "to my like")
        assert compat_go.inbox()[-1]["data"] == "to my like"


async def test_a_udp_daemon_reaches_a_compat_daemon(go: GoDaemon, compat_go: GoDaemon) -> None:
    answer = await go.json("ping", compat_go.address, "--count", "3")
    assert (answer["timeout"], len(answer["results"])) == (False, 3)


@pytest_asyncio.fixture
async def walled(tmp_path: Path, rendezvous: Rendezvous) -> AsyncIterator[Node]:
    """A node of ours that gets no answer by UDP: nobody listens at the port it is told."""
    name = f"walled-{next(_numbers)}"
    spec = f"registry={rendezvous.address},beacon=127.0.0.1:9"
    async with Node.start(name, rendezvous=spec, home=tmp_path) as started:
        await until(lambda: started.info().transport == "websocket")
        yield started


async def test_our_walled_node_and_a_udp_daemon(go: GoDaemon, walled: Node) -> None:
    await both_ways(go, walled)


async def test_our_walled_node_and_a_compat_daemon(compat_go: GoDaemon, walled: Node) -> None:
    await both_ways(compat_go, walled)


async def both_ways(daemon: GoDaemon, node: Node) -> None:
    pong = await node.ping(daemon.hostname, timeout=20)
    assert pong.address == daemon.address
    await node.send(daemon.hostname, "over our websocket", timeout=20)
    assert daemon.inbox()[-1]["data"] == "over our websocket"
    async with await node.open_stream(daemon.hostname, ECHO) as stream:
        await echo(stream, MIB)
    answer = await daemon.json("ping", node.address, "--count", "3")
    assert (answer["timeout"], len(answer["results"])) == (False, 3)
    await daemon.json("send-message", node.address, "--data", "to your websocket")
    assert (await node.recv(timeout=10)).text() == "to your websocket"
