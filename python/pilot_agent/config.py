"""Where settings come from, in this order: argument, environment, file, default.

| setting | argument of `Node.start` | environment | `<home>/config.toml` | default |
|---|---|---|---|---|
| directory of identities | `home` | `PILOT_HOME` | - | `~/.pilot-agent` |
| rendezvous | `rendezvous` | `PILOT_RENDEZVOUS` | `rendezvous` | `"embedded"` |
| UDP address | `listen` | - | `listen` | any port of every address |
| reached from outside at | `public_endpoint` | - | `public_endpoint` | found out |
| may ask the router for a port | `port_mapping` | - | `port_mapping` | `true` |
| visible to all | `public` | - | `public` | `true` |
| received files | `inbox` | - | `inbox` | `<home>/inbox/<hostname>` |
| peer is lost after | `peer_timeout` | - | `peer_timeout` | 30 seconds |

This module is the only place that reads the environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["home_directory", "settings"]

FILE_SETTINGS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "rendezvous": str,
    "listen": str,
    "public_endpoint": str,
    "port_mapping": bool,
    "public": bool,
    "inbox": str,
    "peer_timeout": (int, float),
}


def home_directory(home: str | os.PathLike[str] | None = None) -> Path:
    """Returns the directory of identities and of the configuration file.

    Args:
        home: The caller's choice; `None` for the environment or the default.

    Returns:
        An absolute path.
    """
    chosen = home or os.environ.get("PILOT_HOME") or "~/.pilot-agent"
    return Path(chosen).expanduser().absolute()


def settings(home: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in what the caller left open.

    Args:
        home: The directory, from `home_directory`.
        arguments: Options of `Node.start`; `None` is open.

    Returns:
        The options, without those that are still open.

    Raises:
        InvalidArgument: The configuration file is not TOML, or has a setting that is not known
            or of the wrong type.
    """
    found = {**_from_file(home / "config.toml"), **_from_environment()}
    found |= {name: value for name, value in arguments.items() if value is not None}
    found["home"] = home
    found.setdefault("rendezvous", "embedded")
    return found


def _from_environment() -> dict[str, str]:
    rendezvous = os.environ.get("PILOT_RENDEZVOUS")
    return {"rendezvous": rendezvous} if rendezvous else {}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError:
        # None there, or none that we may read; what must be readable is the identity.
        return {}
    try:
        values: dict[str, Any] = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        message = f"{path} is not TOML: {error}"
        raise InvalidArgument(message) from None
    for name, value in values.items():
        expected = FILE_SETTINGS.get(name)
        if expected is None:
            message = f"{path}: no setting {name!r}; there are {', '.join(FILE_SETTINGS)}"
            raise InvalidArgument(message)
        if not isinstance(value, expected):
            message = f"{path}: {name} is a {type(value).__name__}"
            raise InvalidArgument(message)
    return values
