"""What the package exports, and how its errors relate to Python's own."""

from __future__ import annotations

import inspect
import pickle
import pkgutil
import subprocess
import sys

import pytest

import pilot_agent
from pilot_agent import errors

BUILT_IN: dict[str, type[Exception]] = {
    "PeerNotFound": LookupError,
    "PeerUnreachable": ConnectionError,
    "ConnectionRefused": ConnectionRefusedError,
    "StreamReset": ConnectionResetError,
    "RequestTimeout": TimeoutError,
    "PayloadTooLarge": ValueError,
    "InvalidArgument": ValueError,
    "IdentityInUse": errors.IdentityError,
    "RegistryError": ConnectionError,
    "LocalError": OSError,
    "ForkedProcessError": RuntimeError,
}


def test_all_names_exist_and_nothing_public_is_left_out() -> None:
    names = {name for name in vars(pilot_agent) if not name.startswith("_")}
    modules = {module.name for module in pkgutil.iter_modules(pilot_agent.__path__)}
    assert names - modules - {"annotations"} == set(pilot_agent.__all__) - {"__version__"}


def test_classes_show_their_public_name() -> None:
    for name in pilot_agent.__all__:
        value = getattr(pilot_agent, name)
        if inspect.isclass(value):
            assert value.__module__ == "pilot_agent", name


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_are_pilot_errors_and_what_fits(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.PilotError)
    assert issubclass(error, BUILT_IN.get(name, Exception))
    assert name in (errors.__doc__ or "")
    made = error("what happened", peer="bob")
    assert (str(made), made.peer) == ("what happened", "bob")
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again), vars(again)) == (error, "what happened", vars(made))


def test_public_things_have_docstrings() -> None:
    missing = []
    for name in pilot_agent.__all__:
        value = getattr(pilot_agent, name)
        if not inspect.isclass(value):
            continue
        for member, thing in vars(value).items():
            is_code = isinstance(thing, (property, classmethod)) or inspect.isfunction(thing)
            if not member.startswith("_") and is_code and not inspect.getdoc(thing):
                missing.append(f"{name}.{member}")
    assert missing == []


def test_importing_starts_no_thread_and_needs_no_loop() -> None:
    code = (
        "import pilot_agent, os, sys\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "assert 'uvloop' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=20)
