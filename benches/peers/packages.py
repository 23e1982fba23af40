"""Packages that a peer needs and that may not be installed.

They are imported by name, where they are used: a missing one is a line in the table, and the type
checker says the same with and without them.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Peer

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["PackagePeer", "load"]


def load(module: str) -> Any:
    """The module, as something whose types nobody knows."""
    loaded: ModuleType = importlib.import_module(module)
    return loaded


class PackagePeer(Peer):
    """A peer that comes with a Python package."""

    package: ClassVar[str]
    """As it is installed."""

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.version() else f"the package {cls.package} is not installed"

    @classmethod
    def version(cls) -> str:
        try:
            return version(cls.package)
        except PackageNotFoundError:
            return ""
