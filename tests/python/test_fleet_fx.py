"""The exchange-rate specialist of the demo: known rates, holidays, crosses, periods, errors."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from fleet.fx import Rates, answer, is_publishing_day
from fleet.question import QuestionError, reply_to

RATES = Rates.load()


def on(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("pair", "day", "rate"),
    [
        ("EUR/USD", "2008-07-15", "1.599"),  # the highest there has been
        ("EUR/USD", "2000-10-26", "0.8252"),  # the lowest
        ("EUR/USD", "1999-01-04", "1.1789"),  # the first
        ("EUR/JPY", "1999-01-04", "133.73"),
        ("EUR/GBP", "2008-12-31", "0.9525"),
        ("EUR/CHF", "2014-08-25", "1.2087"),
        ("EUR/SEK", "2022-01-03", "10.2958"),
        ("EUR/NOK", "2008-10-06", "8.348"),
        ("EUR/DKK", "2008-07-15", "7.4597"),
        ("EUR/HUF", "2022-02-17", "356.08"),
        ("EUR/EUR", "2008-07-15", "1"),
    ],
)
def test_published_rates_keep_their_digits(pair: str, day: str, rate: str) -> None:
    assert str(RATES.on(pair, on(day)).rate) == rate


@pytest.mark.parametrize(
    ("pair", "rate"),
    [("USD/EUR", "0.625391"), ("GBP/USD", "2.00993"), ("USD/JPY", "104.740"), ("USD/USD", "1")],
)
def test_cross_rates_have_six_digits(pair: str, rate: str) -> None:
    assert RATES.on(pair, on("2008-07-15")).rate == Decimal(rate)


@pytest.mark.parametrize("pair", ["eur/usd", " EUR / USD "])
def test_pairs_may_be_written_loosely(pair: str) -> None:
    assert RATES.on(pair, on("2008-07-15")).pair == "EUR/USD"


@pytest.mark.parametrize(
    ("asked", "published"),
    [
        ("2008-07-19", "2008-07-18"),  # Saturday
        ("2008-07-20", "2008-07-18"),  # Sunday
        ("2009-01-01", "2008-12-31"),  # New Year
        ("2009-01-04", "2009-01-02"),
        ("2008-07-18", "2008-07-18"),
    ],
)
def test_a_closed_day_has_the_rate_of_the_last_open_one(asked: str, published: str) -> None:
    assert RATES.on("EUR/USD", on(asked)).on == on(published)


@pytest.mark.parametrize(
    "asked",
    [
        "1999-01-01",
        "2008-10-07",
        "2008-10-11",
        "2013-05-05",
        "2030-01-01",
        "0001-01-01",
        "9999-12-31",
    ],
)
def test_a_gap_in_the_data_is_not_papered_over(asked: str) -> None:
    with pytest.raises(QuestionError, match=r"no rates for .*; there are 1999-01-04 to 1999-01-29"):
        RATES.on("EUR/USD", on(asked))


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        ("2008-07-15", True),
        ("2008-07-19", False),
        ("2008-03-21", False),  # Good Friday
        ("2008-03-24", False),  # Easter Monday
        ("2008-05-01", False),
        ("2008-05-12", True),  # Whit Monday, which TARGET does not keep
        ("2019-04-19", False),
        ("2019-04-22", False),
        ("2024-12-25", False),
        ("2024-12-26", False),
        ("2024-12-27", True),
    ],
)
def test_publishing_days(day: str, *, open_: bool) -> None:
    assert is_publishing_day(on(day)) is open_


def test_periods_are_stretches_without_a_missing_business_day() -> None:
    periods = RATES.periods()
    assert (on("2008-06-30"), on("2008-10-06")) in periods
    assert (on("2008-12-31"), on("2009-01-30")) in periods  # over New Year
    for first, last in periods:
        days = (first + dt.timedelta(number) for number in range((last - first).days + 1))
        for day in filter(is_publishing_day, days):
            assert RATES.on("EUR/USD", day).on == day


def test_lowest_and_highest_of_a_period() -> None:
    reply = answer({"pair": "EUR/USD", "from": "2008-07-01", "to": "2008-10-06"})
    assert reply["highest"] == {"on": "2008-07-15", "rate": "1.599"}
    assert reply["lowest"] == {"on": "2008-10-06", "rate": "1.3634"}
    assert reply["days"] == 70
    assert reply["change_percent"] == "-13.57"


def test_a_rate_in_words() -> None:
    reply = answer({"pair": "EUR/USD", "on": "2008-07-20"})
    assert reply["rate"] == "1.5816"
    expected = "1 EUR = 1.5816 USD on 2008-07-18, the last business day before 2008-07-20"
    assert reply["text"] == expected


@pytest.mark.parametrize(
    ("amount", "converted"), [(100, "159.90"), (0.5, "0.80"), (1e6, "1599000.00")]
)
def test_conversion(amount: float, converted: str) -> None:
    reply = answer({"pair": "EUR/USD", "on": "2008-07-15", "amount": amount})
    assert reply["converted"] == converted


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({}, "needs a text in 'pair'"),
        ({"pair": 7}, "needs a text in 'pair'"),
        ({"pair": "EUR/USD"}, "ask for the rate 'on' a day"),
        ({"pair": "EURUSD", "on": "2008-07-15"}, "is no currency pair; write EUR/USD"),
        ({"pair": "XAU/EUR", "on": "2008-07-15"}, "no reference rates for XAU; there are CHF"),
        ({"pair": "EUR/USD", "on": "15.7.2008"}, "is no date; write 2008-07-15"),
        ({"pair": "EUR/USD", "on": "2008-02-30"}, "is no date"),
        ({"pair": "EUR/USD", "on": None}, "needs a text in 'on'"),
        ({"pair": "EUR/USD", "on": "2011-11-11"}, "no rates for 2011-11-11"),
        ({"pair": "EUR/USD", "on": "2008-07-15", "amount": "many"}, "has to be a number above 0"),
        ({"pair": "EUR/USD", "on": "2008-07-15", "amount": True}, "has to be a number above 0"),
        ({"pair": "EUR/USD", "on": "2008-07-15", "amount": -1}, "has to be a number above 0"),
        ({"pair": "EUR/USD", "from": "2010-01-01", "to": "2010-12-31"}, "no rates from 2010-01-01"),
        ({"pair": "EUR/USD", "from": "2009-01-01", "to": "2008-01-01"}, "before it begins"),
        (["EUR/USD"], "a question is a JSON object"),
        (None, "a question is a JSON object"),
    ],
)
def test_a_bad_question_is_answered_with_an_error(question: object, error: str) -> None:
    reply = reply_to(answer, question)
    assert reply["ok"] is False
    assert error in str(reply["error"])


def test_the_krone_is_pegged_so_no_digit_slipped() -> None:
    for first, last in RATES.periods():
        for quote in RATES.between("EUR/DKK", first, last):
            assert Decimal("7.42") < quote.rate < Decimal("7.47")
