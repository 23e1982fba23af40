"""The METAR parser of the demo: each kind of group, and every report that is shipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.metar import MetarError, Report, Trend, parse
from fleet.remarks import PeakWind
from fleet.sky import RunwayRange, Visibility
from fleet.weather import Dated, describe, load

SHIPPED = load()


def body(groups: str) -> Report:
    report = parse(f"METAR KJFK 052351Z {groups}")
    assert not report.unparsed
    return report


@pytest.mark.parametrize("dated", SHIPPED, ids=lambda dated: dated.report.raw[:24])
def test_every_shipped_report_is_understood_to_the_last_group(dated: Dated) -> None:
    report = dated.report
    assert report.unparsed == []
    assert report.day is not None
    assert report.pressure_hpa is not None
    assert 940 < report.pressure_hpa < 1060
    assert report.temperature is not None
    assert -60 < report.temperature < 55
    if report.dewpoint is not None:
        assert report.dewpoint <= report.temperature
    if report.remarks.temperature is not None:
        assert abs(report.remarks.temperature - report.temperature) <= 0.5


def test_the_shipped_reports_are_many_and_varied() -> None:
    reports = [dated.report for dated in SHIPPED]
    assert len(reports) >= 50
    assert len({report.station for report in reports}) >= 50
    assert {report.flight_category for report in reports} == {"VFR", "MVFR", "IFR", "LIFR"}
    assert {report.wind.unit for report in reports if report.wind} == {"KT", "MPS"}


@pytest.mark.parametrize(
    ("groups", "direction", "speed", "gust", "knots"),
    [
        ("32013G20KT", 320, 13, 20, 13.0),
        ("00000KT", None, 0, None, 0.0),
        ("VRB03KT", None, 3, None, 3.0),
        ("25010G20MPS", 250, 10, 20, 19.4),
        ("18036KMH", 180, 36, None, 19.4),
        ("270P99KT", 270, 99, None, 99.0),
        ("240112G140KT", 240, 112, 140, 112.0),
        ("/////KT", None, None, None, None),
    ],
)
def test_wind(
    groups: str, direction: int | None, speed: int | None, gust: int | None, knots: float | None
) -> None:
    wind = body(groups).wind
    assert wind is not None
    assert (wind.direction, wind.speed, wind.gust) == (direction, speed, gust)
    assert wind.speed_kt == (None if knots is None else pytest.approx(knots, abs=0.05))


def test_wind_that_swings_has_an_arc() -> None:
    wind = body("30007G16KT 250V340").wind
    assert wind is not None
    assert wind.arc == (250, 340)


@pytest.mark.parametrize(
    ("wind", "words"),
    [
        ("00000KT", "calm"),
        ("VRB02KT", "wind variable 2 kt"),
        ("32013G20KT", "wind 320° 13 gusting 20 kt"),
        ("02005MPS", "wind 020° 5 mps (10 kt)"),
        ("/////KT", "wind not measured"),
    ],
)
def test_wind_in_words(wind: str, words: str) -> None:
    assert str(body(wind).wind) == words


@pytest.mark.parametrize(
    ("groups", "metres", "words"),
    [
        ("9999", 10_000, "over 10 km"),
        ("8000", 8000, "8 km"),
        ("0800", 800, "800 m"),
        ("0000", 0, "below 0 m"),
        ("2400NDV", 2400, "2400 m"),
        ("8000NW", 8000, "8 km to the NW"),
        ("10SM", 16_093, "10 mi"),
        ("3/4SM", 1207, "0.75 mi"),
        ("1 1/4SM", 2012, "1.25 mi"),
        ("M1/4SM", 402, "below 0.25 mi"),
        ("P6SM", 9656, "over 6 mi"),
        ("CAVOK", 10_000, "over 10 km"),
    ],
)
def test_visibility(groups: str, metres: int, words: str) -> None:
    (seen,) = body(groups).visibility
    assert round(seen.metres) == metres
    assert str(seen) == words


def test_directional_visibility_follows_the_prevailing_one() -> None:
    report = body("9999 4000SE -RA")
    assert report.visibility == [Visibility(10_000.0, more=True), Visibility(4000.0, "SE")]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("R12/1000", RunwayRange("12", 1000)),
        ("R24/P6000FT", RunwayRange("24", 1829, None, "P")),
        ("R06L/0600N", RunwayRange("06L", 600, tendency="N")),
        ("R10/1000VP1800D", RunwayRange("10", 1000, 1800, "P", "D")),
        ("R05/4000VP6000FT", RunwayRange("05", 1219, 1829, "P")),
        ("R35R/M0600FT/U", RunwayRange("35R", 183, None, "M", "U")),
    ],
)
def test_runway_visual_range(group: str, expected: RunwayRange) -> None:
    assert body(group).runways == [expected]


@pytest.mark.parametrize(
    "group", ["R88/090060", "R33/CLRD//", "R23L/CLRD70", "R18/29//51", "R34///////"]
)
def test_runway_state_is_not_taken_for_a_visual_range(group: str) -> None:
    report = body(group)
    assert report.runways == []
    assert report.runway_states == [group]


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("-RA", "light rain"),
        ("+SN", "heavy snow"),
        ("BR", "mist"),
        ("VCSH", "showers in the vicinity"),
        ("VCTS", "thunderstorm in the vicinity"),
        ("TS", "thunderstorm"),
        ("+TSRAGR", "heavy thunderstorm with rain and hail"),
        ("-SHSNRA", "light showers of snow and rain"),
        ("FZFG", "freezing fog"),
        ("MIFG", "shallow fog"),
        ("BCFG", "patches of fog"),
        ("BLSN", "blowing snow"),
        ("-UP", "light unknown precipitation"),
    ],
)
def test_weather(group: str, words: str) -> None:
    assert [str(weather) for weather in body(group).weather] == [words]


def test_recent_weather_is_not_present_weather() -> None:
    report = body("RERA")
    assert report.weather == []
    assert [str(weather) for weather in report.recent_weather] == ["rain"]


@pytest.mark.parametrize(
    ("group", "words", "ceiling"),
    [
        ("FEW023CB", "few clouds at 2300 ft (cumulonimbus)", None),
        ("BKN016TCU", "broken clouds at 1600 ft (towering cumulus)", 1600),
        ("OVC///", "overcast", None),
        ("FEW055///", "few clouds at 5500 ft", None),
        ("VV009", "sky obscured at 900 ft", 900),
        ("SKC", "clear sky", None),
        ("NSC", "no significant clouds", None),
        ("NCD", "no clouds detected", None),
    ],
)
def test_clouds(group: str, words: str, ceiling: int | None) -> None:
    report = body(group)
    assert [str(cloud) for cloud in report.clouds] == [words]
    assert report.ceiling_ft == ceiling


@pytest.mark.parametrize(
    ("group", "temperature", "dewpoint"),
    [
        ("18/16", 18, 16),
        ("M01/M13", -1, -13),
        ("00/M03", 0, -3),
        ("M00/M05", 0, -5),
        ("M43/", -43, None),
        ("24///", 24, None),
        ("/////", None, None),
    ],
)
def test_temperature(group: str, temperature: int | None, dewpoint: int | None) -> None:
    report = body(group)
    assert (report.temperature, report.dewpoint) == (temperature, dewpoint)


@pytest.mark.parametrize(
    ("groups", "hpa", "inches"),
    [("A2992", 1013.2, 29.92), ("Q1013", 1013.0, 29.91), ("Q1021 A3015", 1021.0, 30.15)],
)
def test_pressure_in_either_unit(groups: str, hpa: float, inches: float) -> None:
    report = body(groups)
    assert report.pressure_hpa == pytest.approx(hpa, abs=0.05)
    assert report.pressure_inhg == pytest.approx(inches, abs=0.01)


@pytest.mark.parametrize("group", ["Q////", "A////"])
def test_missing_pressure_is_none(group: str) -> None:
    assert body(group).pressure_hpa is None


@pytest.mark.parametrize(
    ("groups", "category"),
    [
        ("10SM CLR", "VFR"),
        ("CAVOK", "VFR"),
        ("9999 BKN030", "MVFR"),
        ("8000 FEW020", "MVFR"),
        ("5SM CLR", "MVFR"),
        ("10SM OVC008", "IFR"),
        ("2SM BR CLR", "IFR"),
        ("10SM OVC003", "LIFR"),
        ("M1/4SM FG", "LIFR"),
        ("0300 FG VV003", "LIFR"),
        ("FEW024", "VFR"),
        ("18/16 Q1013", None),
    ],
)
def test_flight_category(groups: str, category: str | None) -> None:
    assert body(groups).flight_category == category


@pytest.mark.parametrize(
    ("text", "automatic", "corrected"),
    [
        ("METAR KJFK 052351Z AUTO 10SM", True, False),
        ("METAR COR KJFK 052351Z 10SM", False, True),
        ("METAR KJFK 052351Z COR 10SM", False, True),
        ("METAR CYYZ 052351Z CCA 10SM", False, True),
        ("KJFK 052351Z 10SM=", False, False),
    ],
)
def test_header(text: str, *, automatic: bool, corrected: bool) -> None:
    report = parse(text)
    assert (report.automatic, report.corrected) == (automatic, corrected)
    assert (report.day, report.hour, report.minute) == (5, 23, 51)


def test_a_special_report_says_so() -> None:
    assert parse("SPECI KHTS 011158Z 4SM MIFG").kind == "SPECI"


def test_a_station_without_observation() -> None:
    report = parse("METAR LMML 060000Z NIL=")
    assert report.missing
    assert report.wind is None


def test_trends_do_not_leak_into_the_observation() -> None:
    report = body("25017KT 9999 TEMPO 25017G27KT 3000 RA BECMG CAVOK")
    assert report.wind is not None
    assert report.wind.gust is None
    assert report.weather == []
    assert report.trends == [
        Trend("TEMPO", ["25017G27KT", "3000", "RA"]),
        Trend("BECMG", ["CAVOK"]),
    ]


def test_no_significant_change() -> None:
    assert body("CAVOK NOSIG").no_change


@pytest.mark.parametrize(("groups", "where"), [("WS R28", ["R28"]), ("WS ALL RWY", ["ALL RWY"])])
def test_wind_shear(groups: str, where: list[str]) -> None:
    assert body(groups).wind_shear == where


@pytest.mark.parametrize("colour", ["BLU", "BLU+BLU+", "YLO1"])
def test_military_colour(colour: str) -> None:
    assert body(colour).colour == colour


def test_unknown_groups_are_kept() -> None:
    assert parse("KJFK 052351Z 10SM NONSENSE 12X").unparsed == ["NONSENSE", "12X"]


@pytest.mark.parametrize(
    "text", ["", "   ", "METAR", "hello world", "metar kjfk", "12345 KJFK", "="]
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(MetarError, match="does not begin with a station"):
        parse(text)


def test_remarks() -> None:
    remarks = body(
        "10SM RMK AO2 PK WND 26027/2350 SLP139 4/001 P0003 60010 70042 T10721094 11050 21072 "
        "400610005 51019 SNB33E40RAB40 TSNO $"
    ).remarks
    assert remarks.sensor == "AO2"
    assert remarks.peak_wind == PeakWind(260, 27, 50, 23)
    assert remarks.sea_level_hpa == 1013.9
    assert remarks.snow_depth_in == 1
    assert (remarks.rain_1h_in, remarks.rain_6h_in, remarks.rain_24h_in) == (0.03, 0.1, 0.42)
    assert (remarks.temperature, remarks.dewpoint) == (-7.2, -9.4)
    assert (remarks.highest_6h, remarks.lowest_6h) == (-5.0, -7.2)
    assert (remarks.highest_24h, remarks.lowest_24h) == (6.1, 0.5)
    assert remarks.tendency == 1.9
    assert remarks.began_ended == ["SNB33E40RAB40"]
    assert remarks.needs_maintenance
    assert remarks.other == ["TSNO"]


@pytest.mark.parametrize(
    ("group", "hpa"), [("SLP139", 1013.9), ("SLP989", 998.9), ("SLP499", 1049.9), ("SLP500", 950.0)]
)
def test_sea_level_pressure_is_the_one_nearer_to_a_thousand(group: str, hpa: float) -> None:
    assert body(f"10SM RMK {group}").remarks.sea_level_hpa == pytest.approx(hpa)


@pytest.mark.parametrize(("group", "change"), [("53010", 1.0), ("58033", -3.3), ("50000", 0.0)])
def test_pressure_tendency_has_a_sign(group: str, change: float) -> None:
    assert body(f"10SM RMK {group}").remarks.tendency == change


@pytest.mark.parametrize("groups", ["PK", "PK WND", "PK WND GUSTY", "PK 26027/2350 SLP139"])
def test_a_broken_peak_wind_stays_in_the_rest(groups: str) -> None:
    remarks = body(f"10SM RMK {groups}").remarks
    assert remarks.peak_wind is None
    assert " ".join(remarks.other).startswith("PK")


def test_tenths_of_a_degree_win_over_whole_ones() -> None:
    assert body("M43/ RMK T1428").exact_temperature == -42.8
    assert body("M43/").exact_temperature == -43


GROUPS = sorted({group for dated in SHIPPED for group in dated.report.raw.split()})
ODD = [
    "1/0SM",
    "WS",
    "R99/",
    "TEMPO",
    "RMK",
    "PK",
    "//////////",
    "T99999999",
    "2",
    "1 1/4SM",
    "=",
    "Ø",
]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(GROUPS),
            st.sampled_from(ODD),
            st.text(alphabet="0123456789/ABCDEFGKMPQRSTVZ+-", min_size=1, max_size=9),
        ),
        max_size=12,
    )
)
def test_any_row_of_groups_is_decoded_or_refused(groups: list[str]) -> None:
    report = parse(" ".join(["METAR", "KJFK", *groups]))
    assert set(report.unparsed) <= set(groups)
    assert report.flight_category in {None, "VFR", "MVFR", "IFR", "LIFR"}
    assert describe(Dated("", report)).startswith("KJFK, ")
