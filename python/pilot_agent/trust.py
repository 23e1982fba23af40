"""Trust: who may find and reach a private node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _native
from .message import TrustAnswer, TrustedPeer, TrustRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._bridge import Scope
    from .message import Peer

__all__ = ["Trust"]


class Trust:
    """What a node that is not public knows of its friends; `Node.trust` is one.

    Example:
        >>> answer = await alice.trust.request("hermit", "we work together")  # at the one
        >>> for request in hermit.trust.pending():  # at the other
        ...     await hermit.trust.approve(request.address)
    """

    def __init__(self, scope: Scope, native: _native.Node) -> None:
        self._scope = scope
        self._native = _native.Trust(native)

    async def request(
        self, peer: Peer, reason: str = "", *, timeout: float | None = 10.0
    ) -> TrustAnswer:
        """Asks a peer for its trust, and gives it this node's when it agrees.

        Args:
            peer: Hostname, address, or node id.
            reason: Why, for the peer's owner.
            timeout: Longest wait for the owner, in seconds; `None` for no limit. The request
                stays with the peer, and an answer that comes later counts as well.

        Returns:
            What became of the request by then.

        Raises:
            PeerNotFound: No such hostname or node.
            RegistryError: Neither the peer nor the rendezvous takes the request.
            NodeClosed: The node is closed.
        """
        state, why = await self._scope.run(
            lambda bridge, token: self._native.request(bridge, token, peer, reason, timeout)
        )
        return TrustAnswer(state, why)

    def pending(self) -> Sequence[TrustRequest]:
        """Returns the requests that wait for `approve` or `reject`.

        Raises:
            NodeClosed: The node is closed.
        """
        return [TrustRequest(*parts) for parts in self._native.pending()]

    def trusted(self) -> Sequence[TrustedPeer]:
        """Returns whom this node trusts.

        Raises:
            NodeClosed: The node is closed.
        """
        return [TrustedPeer(*parts) for parts in self._native.trusted()]

    async def approve(self, peer: Peer) -> None:
        """Trusts a peer, whether it has asked already or will ask.

        Args:
            peer: Hostname, address, or node id.

        Raises:
            PeerNotFound: No such hostname or node.
            IdentityMismatch: Its key is not the pinned one.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.approve(peer)

    async def reject(self, peer: Peer, reason: str = "") -> None:
        """Drops a peer's request, and tells it why.

        Args:
            peer: Hostname, address, or node id.
            reason: For the one who asked.

        Raises:
            InvalidArgument: The peer has not asked.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.reject(peer, reason)

    async def revoke(self, peer: Peer) -> None:
        """Trusts a peer no longer, and tells it; at a private node its streams end.

        Args:
            peer: Hostname, address, or node id.

        Raises:
            RegistryError: The rendezvous could not be told; the trust has ended all the same.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.revoke(peer)


Trust.__module__ = "pilot_agent"
