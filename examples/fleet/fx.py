"""The exchange-rate specialist: euro reference rates of the European Central Bank."""

from __future__ import annotations

import bisect
import csv
import datetime as dt
import functools
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from fleet.question import DATA, Answer, Question, QuestionError, day, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CAPABILITIES", "Quote", "Rates", "answer", "is_publishing_day"]

CAPABILITIES = ["historical exchange rates", "euro reference rates", "currency conversion"]

_SIX_DIGITS = Context(prec=6)
_ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Quote:
    """What one unit of the first currency cost in the second.

    Attributes:
        on: The day the rate is of, which may be before the day that was asked for.
    """

    pair: str
    on: dt.date
    rate: Decimal


class Rates:
    """The reference rates of some days: units of a currency for one euro.

    The central bank publishes a rate on every day on which TARGET, its payment system, works. A
    question about another day is answered with the last rate before it, as the bank itself does.
    """

    def __init__(self, table: dict[dt.date, dict[str, Decimal]]) -> None:
        self._table = table
        self._days = sorted(table)

    @classmethod
    def load(cls, path: Path = DATA / "eurofxref.csv") -> Rates:
        """Read a file in the format of the bank's own download."""
        table: dict[dt.date, dict[str, Decimal]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                on = dt.date.fromisoformat(row.pop("Date"))
                known = {name: Decimal(rate) for name, rate in row.items() if rate != "N/A"}
                table[on] = {"EUR": Decimal(1), **known}
        return cls(table)

    @property
    def currencies(self) -> list[str]:
        """The codes of all currencies that have a rate on some day."""
        return sorted({code for rates in self._table.values() for code in rates})

    def periods(self) -> list[tuple[dt.date, dt.date]]:
        """The stretches without a gap: first and last day of each."""
        stretches: list[tuple[dt.date, dt.date]] = []
        for on in self._days:
            if stretches and _previous_publishing_day(on) == stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], on)
            else:
                stretches.append((on, on))
        return stretches

    def on(self, pair: str, on: dt.date) -> Quote:
        """The rate of `pair`, such as "EUR/USD", on a day or on the last publishing day before.

        Raises:
            QuestionError: An unknown currency, or a day that the data does not cover.
        """
        base, counter = self._split(pair)
        known = on
        if on not in self._table and self._days[0] < on < dt.date.max:
            known = _previous_publishing_day(on + _ONE_DAY)
        if known not in self._table:
            raise QuestionError(f"no rates for {on}; there are {self._coverage()}")
        return self._quote(base, counter, known)

    def between(self, pair: str, first: dt.date, last: dt.date) -> list[Quote]:
        """All rates of `pair` from `first` to `last`, both included, in order of time.

        Raises:
            QuestionError: An unknown currency, or no rates in that period.
        """
        base, counter = self._split(pair)
        if first > last:
            raise QuestionError(f"the period ends on {last}, before it begins on {first}")
        low, high = bisect.bisect_left(self._days, first), bisect.bisect_right(self._days, last)
        quotes = [self._quote(base, counter, on) for on in self._days[low:high]]
        if not quotes:
            raise QuestionError(f"no rates from {first} to {last}; there are {self._coverage()}")
        return quotes

    def _quote(self, base: str, counter: str, on: dt.date) -> Quote:
        rates = self._table[on]
        missing = [code for code in (base, counter) if code not in rates]
        if missing:
            raise QuestionError(f"there was no reference rate for {missing[0]} on {on}")
        # A published rate keeps its digits; only crosses are computed, and then rounded.
        rate = rates[counter] if base == "EUR" else _SIX_DIGITS.divide(rates[counter], rates[base])
        return Quote(f"{base}/{counter}", on, rate)

    def _split(self, pair: str) -> tuple[str, str]:
        base, slash, counter = pair.upper().replace(" ", "").partition("/")
        if not slash or not base or not counter:
            raise QuestionError(f"{pair!r} is no currency pair; write EUR/USD")
        for code in (base, counter):
            if code not in self.currencies:
                known = ", ".join(self.currencies)
                raise QuestionError(f"no reference rates for {code}; there are {known}")
        return base, counter

    def _coverage(self) -> str:
        return ", ".join(f"{first} to {last}" for first, last in self.periods())


def is_publishing_day(on: dt.date) -> bool:
    """Whether the bank publishes rates on that day: TARGET's calendar as it is since 2002."""
    easter = _easter(on.year)
    closed = {easter - 2 * _ONE_DAY, easter + _ONE_DAY}
    return on.weekday() < 5 and on not in closed and (on.month, on.day) not in _FIXED_HOLIDAYS


_FIXED_HOLIDAYS = frozenset({(1, 1), (5, 1), (12, 25), (12, 26)})


def answer(question: Question) -> Answer:
    """Answer one question about exchange rates.

    Args:
        question: `{"pair": "EUR/USD", "on": "2008-07-15"}`, with an `"amount"` to convert it, or
            `{"pair": ..., "from": date, "to": date}` for the lowest and highest rate.

    Returns:
        `text`, one line for people, and the numbers as texts with all their digits.

    Raises:
        QuestionError: The question is neither, or the data has no answer.
    """
    rates = _rates()
    pair = text(question, "pair")
    if "on" in question:
        return _on_a_day(rates, question, pair)
    if "from" in question and "to" in question:
        return _over_a_period(rates, question, pair)
    raise QuestionError("ask for the rate 'on' a day, or for the range 'from' one day 'to' another")


def _on_a_day(rates: Rates, question: Question, pair: str) -> Answer:
    asked = day(question, "on")
    quote = rates.on(pair, asked)
    base, counter = quote.pair.split("/")
    result: Answer = {"pair": quote.pair, "on": str(quote.on), "rate": str(quote.rate)}
    line = f"1 {base} = {quote.rate} {counter} on {quote.on}"
    if "amount" in question:
        amount = _amount(question)
        converted = (amount * quote.rate).quantize(Decimal("0.01"))
        result |= {"amount": str(amount), "converted": str(converted)}
        line = f"{amount} {base} = {converted} {counter} on {quote.on}"
    if quote.on != asked:
        line += f", the last business day before {asked}"
    return {"text": line, **result}


def _over_a_period(rates: Rates, question: Question, pair: str) -> Answer:
    quotes = rates.between(pair, day(question, "from"), day(question, "to"))
    low, high = min(quotes, key=_rate), max(quotes, key=_rate)
    change = (quotes[-1].rate / quotes[0].rate - 1) * 100
    line = f"{low.pair} from {low.rate} ({low.on}) to {high.rate} ({high.on})"
    return {
        "text": f"{line}, {change:+.1f} % over {len(quotes)} days",
        "pair": low.pair,
        "days": len(quotes),
        "lowest": {"on": str(low.on), "rate": str(low.rate)},
        "highest": {"on": str(high.on), "rate": str(high.rate)},
        "change_percent": f"{change:.2f}",
    }


def _amount(question: Question) -> Decimal:
    value = question["amount"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise QuestionError("'amount' has to be a number above 0")
    return Decimal(str(value))


def _rate(quote: Quote) -> Decimal:
    return quote.rate


@functools.cache
def _rates() -> Rates:
    return Rates.load()


def _previous_publishing_day(on: dt.date) -> dt.date:
    return next(earlier for earlier in _backwards(on) if is_publishing_day(earlier))


def _backwards(on: dt.date) -> Iterator[dt.date]:
    while True:
        on -= _ONE_DAY
        yield on


def _easter(year: int) -> dt.date:
    """Easter Sunday by the Gregorian computus (Meeus, Jones and Butcher)."""
    cycle, (century, rest) = year % 19, divmod(year, 100)
    leaps, remainder = divmod(century, 4)
    shift = (century - (century + 8) // 25 + 1) // 3
    moon = (19 * cycle + century - leaps - shift + 15) % 30
    quarters, odd = divmod(rest, 4)
    weekday = (32 + 2 * remainder + 2 * quarters - moon - odd) % 7
    late = (cycle + 11 * moon + 22 * weekday) // 451
    month, before = divmod(moon + weekday - 7 * late + 114, 31)
    return dt.date(year, month, before + 1)
