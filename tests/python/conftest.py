"""Networks on loopback for the tests of the public API."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from pilot_agent.testing import LocalNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilot_agent import Node


class Pair(NamedTuple):
    """Two nodes of one network."""

    alice: Node
    bob: Node


@pytest.fixture
async def network() -> AsyncIterator[LocalNetwork]:
    """A rendezvous on loopback, and nodes on demand."""
    async with LocalNetwork() as network:
        yield network


@pytest.fixture
async def pair(network: LocalNetwork) -> Pair:
    """Two nodes, alice and bob."""
    alice, bob = await network.nodes("alice", "bob")
    return Pair(alice, bob)
