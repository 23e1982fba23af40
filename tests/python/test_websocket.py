"""Where UDP is blocked, everything goes over a WebSocket, and nobody has to ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilot_agent import InvalidArgument, Node, Rendezvous

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

LIMIT = 60.0


async def test_a_conversation_goes_on_when_udp_is_blocked(tmp_path: Path) -> None:
    async with (
        Rendezvous.start("127.0.0.1:0") as rendezvous,
        Node.start("a", rendezvous=rendezvous.address, home=tmp_path) as a,
        Node.start("b", rendezvous=rendezvous.address, home=tmp_path) as b,
    ):
        await a.send("b", "by UDP")
        assert (await b.recv(timeout=10)).text() == "by UDP"
        with a.simulate(block="udp"):
            await a.send("b", "by WebSocket", timeout=LIMIT)
            assert (await b.recv(timeout=10)).text() == "by WebSocket"
            assert (a.info().transport, b.info().transport) == ("websocket", "udp")
            await b.send("a", "and back", timeout=LIMIT)
            assert (await a.recv(timeout=10)).text() == "and back"


async def test_a_rendezvous_shows_its_certificate_and_listens_for_tls(tmp_path: Path) -> None:
    store = tmp_path / "r.redb"
    fingerprints = set()
    for _ in range(2):
        async with Rendezvous.start(
            "127.0.0.1:0", store=store, tls_listen="127.0.0.1:0"
        ) as rendezvous:
            assert rendezvous.tls_address is not None
            spec = f"registry={rendezvous.tls_address},beacon={rendezvous.address}"
            spec = f"{spec},pin={rendezvous.fingerprint}"
            async with Node.start("a", rendezvous=spec, home=tmp_path) as node:
                assert node.info().registered
            fingerprints.add(rendezvous.fingerprint)
    assert len(fingerprints) == 1
    pem = store.with_suffix(".tls.pem")
    async with Rendezvous.start("127.0.0.1:0", tls_cert=pem) as rendezvous:
        assert {rendezvous.fingerprint} == fingerprints
    with pytest.raises(InvalidArgument, match="tls_cert"):
        Rendezvous.start("127.0.0.1:0", tls_key=pem)
