"""The README runs: every Python block is a program, every command of a shell block exists."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
ASSIGNMENT = re.compile(r"(?:export )?([A-Z_]+)=(\S+)")


class Block(NamedTuple):
    """A fenced block and the line it starts at."""

    language: str
    line: int
    code: str


def blocks(*languages: str) -> list[Block]:
    text = README.read_text("utf-8")
    return [
        Block(match[1], text.count("\n", 0, match.start()) + 1, match[2])
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if match[1] in languages
    ]


def commands() -> list[tuple[int, str]]:
    return [
        (block.line + offset, command)
        for block in blocks("sh")
        for offset, row in enumerate(block.code.splitlines(), 1)
        if (command := row.partition("#")[0].strip())
    ]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"line {block.line}")
def test_every_python_block_is_a_program_that_runs(block: Block, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    private = {"PILOT_HOME": str(tmp_path), "PILOT_RENDEZVOUS": f"embedded:{port}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.code],
        env=os.environ | private,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # What a comment next to a print promises is what it prints; "such as" is an example.
    for promised in re.findall(r"print\(.*\) +# (.+)", block.code):
        if not promised.startswith("such as"):
            assert promised in done.stdout.splitlines()


@pytest.mark.parametrize(("line", "command"), commands())
def test_every_shell_command_exists(line: int, command: str) -> None:
    assert line
    if ASSIGNMENT.fullmatch(command):
        return
    program, *arguments = shlex.split(command)
    if program == "make":
        # Not run: this test is a part of `make test`.
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in arguments)
        return
    assert program == "pilot"
    subcommand, *options = arguments
    shown = subprocess.run(
        [str(Path(sys.executable).with_name(program)), subcommand, "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert [option for option in options if option.startswith("--") and option not in shown] == []


def test_variables_of_the_readme_are_ones_we_read() -> None:
    names = {match[1] for _, command in commands() if (match := ASSIGNMENT.fullmatch(command))}
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.rs"))
    sources += "".join(path.read_text("utf-8") for path in (ROOT / "python").rglob("*.py"))
    assert [name for name in names if name not in sources] == []


def test_what_the_readme_points_to_exists() -> None:
    text = README.read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:src|tests|docs|examples|python)/[\w./-]*)`", text)
    tree = re.findall(r"^((?:src|python)/\w+) ", text, re.MULTILINE)
    assert [path for path in [*links, *paths, *tree] if not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) < 175
