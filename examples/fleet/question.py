"""What engines share: the shape of questions and answers, and how a bad question fails."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

__all__ = [
    "DATA",
    "JSON",
    "Answer",
    "Engine",
    "Question",
    "QuestionError",
    "day",
    "reply_to",
    "text",
    "whole",
]

DATA = Path(__file__).resolve().parent.parent / "data"
"""The directory with the records that the specialists answer from."""

JSON: TypeAlias = "bool | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Question: TypeAlias = Mapping[str, object]
Answer: TypeAlias = dict[str, JSON]
Engine: TypeAlias = Callable[[Question], Answer]


class QuestionError(ValueError):
    """The question cannot be answered; the message tells the asker why, and what would work."""


def reply_to(engine: Engine, question: object) -> Answer:
    """Ask `engine` and wrap what comes back, so that a bad question is a reply and not a crash.

    Args:
        engine: The function that answers.
        question: What the peer sent, parsed from JSON; anything at all.

    Returns:
        The engine's answer with `ok: true`, or `ok: false` and an `error`.
    """
    if not isinstance(question, dict):
        return {"ok": False, "error": 'a question is a JSON object, such as {"query": "consensus"}'}
    try:
        return {"ok": True, **engine(question)}
    except QuestionError as error:
        return {"ok": False, "error": str(error)}


def text(question: Question, field: str) -> str:
    """The non-empty text in `field`, without surrounding space.

    Raises:
        QuestionError: The field is missing, empty, or not text.
    """
    value = question.get(field)
    if not isinstance(value, str) or not value.strip():
        raise QuestionError(f"the question needs a text in {field!r}")
    return value.strip()


def whole(question: Question, field: str, default: int, *, most: int) -> int:
    """The number in `field`, or `default` if there is none, between 1 and `most`.

    Raises:
        QuestionError: The field holds something else.
    """
    value = question.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise QuestionError(f"{field!r} has to be a whole number from 1 to {most}")
    return value


def day(question: Question, field: str) -> dt.date:
    """The date in `field`, written as 2008-07-15.

    Raises:
        QuestionError: The field is missing or no date.
    """
    value = text(question, field)
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise QuestionError(f"{value!r} in {field!r} is no date; write 2008-07-15") from None
