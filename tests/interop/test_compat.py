"""Go daemons in compat mode (WebSocket over TLS, no UDP) through our rendezvous."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from support.echo import MIB, echo
from support.godaemon import GoDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pilot_agent import Node
    from support.ours import Rendezvous

pytestmark = pytest.mark.timeout(120)

ECHO = 7


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
