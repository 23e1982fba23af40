"""What commands share: options, a node to work with, and the two ways of printing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from pilot_agent import Node, Pong

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine

    from pilot_agent import PathReport
    from pilot_agent._opening import Opening

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001
    Run: TypeAlias = Callable[[argparse.Namespace], Coroutine[object, object, None]]


def command(commands: Commands, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    """Adds a command that uses a node."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--rendezvous", metavar="ADDR", help="where agents meet, host:port")
    parser.add_argument("--home", metavar="DIR", help="directory of identities")
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
    parser.set_defaults(run=run)
    return parser


def caller(parser: argparse.ArgumentParser, timeout: float) -> None:
    """Adds the options of a command that calls others."""
    parser.add_argument(
        "--as", dest="hostname", metavar="NAME", help="hostname to call as; default none"
    )
    parser.add_argument(
        "--timeout", type=float, default=timeout, metavar="S", help="seconds, default %(default)g"
    )


def node(options: argparse.Namespace, **more: Any) -> Opening[Node]:
    """Starts the node that a command works with."""
    return Node.start(options.hostname, rendezvous=options.rendezvous, home=options.home, **more)


def show(options: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    """Prints a result for programs or for people."""
    if options.json:
        text = json.dumps(value, ensure_ascii=False, default=_plain)
    print(text, flush=True)


def path_facts(path: Pong | PathReport) -> str:
    """Returns what is known of a path: time, loss, size of datagrams."""
    mtu = path.path_mtu if isinstance(path, Pong) else path.mtu
    facts = (
        None if path.rtt is None else f"{path.rtt * 1000:.3f} ms",
        None if path.loss is None else f"{path.loss:.1%} lost",
        None if mtu is None else f"MTU {mtu}",
        None if isinstance(path, Pong) or path.state == "unknown" else path.state,
    )
    return ", ".join(fact for fact in facts if fact)


def payload_text(kind: str, payload: bytes) -> str:
    """Returns a payload for a terminal: text as it is, bytes as hexadecimal."""
    if kind in {"text", "json"}:
        return payload.decode(errors="replace")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload.hex()
    return text if text.isprintable() else payload.hex()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else str(value)
