"""Private nodes: each side asks the other for trust, and only then gets through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pilot_agent import Node, PilotError
from support.godaemon import GoDaemon

if TYPE_CHECKING:
    from pathlib import Path

    from support.ours import Rendezvous


async def asked(node: Node) -> None:
    """Returns when somebody waits for the node's approval."""
    while not node.trust.pending():
        await asyncio.sleep(0.05)


async def test_the_daemon_asks_us(go: GoDaemon, rendezvous: Rendezvous, tmp_path: Path) -> None:
    async with Node.start(
        "hermit", rendezvous=rendezvous.address, home=tmp_path, public=False
    ) as hermit:
        with pytest.raises(AssertionError, match="exit code"):
            await go.json("send-message", hermit.address, "--data", "too early", timeout=30)
        await go.json("handshake", str(hermit.node_id), "we work together")
        await asyncio.wait_for(asked(hermit), 20)
        (request,) = hermit.trust.pending()
        assert request.address == go.address
        await hermit.trust.approve(request.address)
        await go.json("send-message", hermit.address, "--data", "now", timeout=40)
        message = await hermit.recv(timeout=10)
        assert (message.sender, message.text()) == (go.address, "now")


async def test_we_ask_a_private_daemon(lab: Path, rendezvous: Rendezvous, node: Node) -> None:
    with GoDaemon(lab, rendezvous.address, "go-hermit", public=False) as go:
        with pytest.raises(PilotError):
            await node.send(go.node_id, "too early", timeout=5)
        answer = await node.trust.request(go.node_id, "we work together", timeout=20)
        assert answer.state == "granted"
        await node.send(go.node_id, "now", timeout=20)
        assert [message["data"] for message in go.inbox()] == ["now"]
