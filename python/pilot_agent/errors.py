"""What can go wrong, as a small tree.

Every error of the network derives from `PilotError`; most also derive from the built-in that
fits, so that ``except TimeoutError`` and ``except ConnectionError`` do what they say.

    PilotError
     +- PeerNotFound (LookupError)              no such hostname or node
     +- PeerUnreachable (ConnectionError)       known, but does not answer
     +- ConnectionRefused (ConnectionRefusedError)  nothing listens on that port
     +- StreamReset (ConnectionResetError)      a stream ended before its time
     +- RequestTimeout (TimeoutError)           no answer in time
     +- RequestFailed                           the peer's handler failed
     +- TrustRequired                           the peer is private and has not approved us
     +- IdentityMismatch                        the peer's key is not the one we know
     +- ProtocolError                           the other side broke the rules
     +- Unsupported                             the peer speaks a dialect without that
     +- PayloadTooLarge (ValueError)            more bytes than allowed
     +- InvalidArgument (ValueError)            a value that makes no sense
     +- HostnameTaken                           the hostname belongs to another node
     +- IdentityError                           the identity cannot be read or written
     |   +- IdentityInUse                       another process runs with it
     +- RegistryError (ConnectionError)         the rendezvous cannot be reached, or misbehaves
     +- PortInUse                               the port of this node is taken
     +- LocalError (OSError)                    the operating system refused something
     +- NodeClosed                              the node, or the object, was closed
     +- ForkedProcessError (RuntimeError)       the object belongs to the parent process

Messages say what was tried and what to do. Programs look at the class and at the attributes.
"""

from __future__ import annotations

__all__ = [
    "ConnectionRefused",
    "ForkedProcessError",
    "HostnameTaken",
    "IdentityError",
    "IdentityInUse",
    "IdentityMismatch",
    "InvalidArgument",
    "LocalError",
    "NodeClosed",
    "PayloadTooLarge",
    "PeerNotFound",
    "PeerUnreachable",
    "PilotError",
    "PortInUse",
    "ProtocolError",
    "RegistryError",
    "RequestFailed",
    "RequestTimeout",
    "StreamReset",
    "TrustRequired",
    "Unsupported",
]


class PilotError(Exception):
    """Any error of the network.

    Attributes:
        peer: Who it is about, as the caller named it; `None` if about nobody.
    """

    def __init__(self, message: str, *, peer: str | None = None) -> None:
        super().__init__(message)
        self.peer = peer


class PeerNotFound(PilotError, LookupError):
    """The rendezvous knows no such hostname or node.

    Attributes:
        rendezvous: The rendezvous that was asked.
    """

    def __init__(
        self, message: str, *, peer: str | None = None, rendezvous: str | None = None
    ) -> None:
        super().__init__(message, peer=peer)
        self.rendezvous = rendezvous


class PeerUnreachable(PilotError, ConnectionError):
    """The peer is known but does not answer, or stopped answering."""


class ConnectionRefused(PilotError, ConnectionRefusedError):
    """Nothing listens on that port of the peer.

    Attributes:
        port: The port.
    """

    def __init__(self, message: str, *, peer: str | None = None, port: int | None = None) -> None:
        super().__init__(message, peer=peer)
        self.port = port


class StreamReset(PilotError, ConnectionResetError):
    """A stream ended before its time: reset by the peer, or the peer restarted."""


class RequestTimeout(PilotError, TimeoutError):
    """No answer in time.

    Attributes:
        after: The limit that was set, in seconds.
    """

    def __init__(
        self, message: str, *, peer: str | None = None, after: float | None = None
    ) -> None:
        super().__init__(message, peer=peer)
        self.after = after


class RequestFailed(PilotError):
    """The peer's handler raised, or there is none.

    Attributes:
        reason: What the peer said.
    """

    def __init__(self, message: str, *, peer: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, peer=peer)
        self.reason = reason


class TrustRequired(PilotError):
    """The peer is private and has not approved this node."""


class IdentityMismatch(PilotError):
    """The peer's key is not the one that was pinned when it was first met."""


class ProtocolError(PilotError):
    """The other side said something that the protocol does not allow."""


class Unsupported(PilotError):
    """The peer speaks a dialect that has no such thing."""


class PayloadTooLarge(PilotError, ValueError):
    """More bytes than allowed.

    Attributes:
        size: How many there were.
        limit: How many are allowed.
    """

    def __init__(
        self,
        message: str,
        *,
        peer: str | None = None,
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message, peer=peer)
        self.size = size
        self.limit = limit


class InvalidArgument(PilotError, ValueError):
    """A value that makes no sense."""


class HostnameTaken(PilotError):
    """The hostname belongs to another node."""


class IdentityError(PilotError):
    """The identity of this node cannot be read or written."""


class IdentityInUse(IdentityError):
    """Another process runs with the same identity."""


class RegistryError(PilotError, ConnectionError):
    """The rendezvous cannot be reached, hangs, or answers nonsense.

    Attributes:
        rendezvous: Its address.
    """

    def __init__(
        self, message: str, *, peer: str | None = None, rendezvous: str | None = None
    ) -> None:
        super().__init__(message, peer=peer)
        self.rendezvous = rendezvous


class PortInUse(PilotError):
    """Somebody already listens on that port of this node.

    Attributes:
        port: The port.
    """

    def __init__(self, message: str, *, peer: str | None = None, port: int | None = None) -> None:
        super().__init__(message, peer=peer)
        self.port = port


class LocalError(PilotError, OSError):
    """The operating system of this machine refused something."""


class NodeClosed(PilotError):
    """The node was closed, or the object that was used."""

    def __init__(self, message: str = "the node is closed", *, peer: str | None = None) -> None:
        super().__init__(message, peer=peer)


class ForkedProcessError(PilotError, RuntimeError):
    """The object belongs to the process that this one was forked from.

    Nothing of a node survives a fork: start another one in the child.
    """


for _name in __all__:
    # Tracebacks and `repr` show the names that users import.
    globals()[_name].__module__ = "pilot_agent"
del _name
