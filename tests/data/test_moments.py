"""Times: numbers since 1970 and ISO 8601 texts, to the second."""

from __future__ import annotations

import datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.data.moments import seconds_since_1970


def seconds(*texts: str | None, ticks_a_second: int = 1) -> list[float | None]:
    frame = pl.DataFrame({"time": texts}, schema={"time": pl.String})
    return frame.select(seconds_since_1970(pl.col("time"), ticks_a_second)).to_series().to_list()


DAY = 1_704_153_600.0  # 2024-01-02


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1704153600", DAY),
        (" 1704153600.9 ", DAY),
        ("-1.5", -2),
        ("2024-01-02", DAY),
        (" 2024-01-02 ", DAY),
        ("2024-01-02 03:04:05", DAY + 11045),
        ("2024-01-02T03:04:05", DAY + 11045),
        ("2024-01-02t03:04:05z", DAY + 11045),
        ("2024-01-02T03:04:05Z", DAY + 11045),
        ("2024-01-02T03:04:05.999999Z", DAY + 11045),
        ("2024-01-02 03:04:05,5", DAY + 11045),
        ("2024-01-02 03:04", DAY + 11040),
        ("2024-01-02T03:04:05+05:30", DAY + 11045 - 19800),
        ("2024-01-02 03:04:05-0800", DAY + 11045 + 28800),
        ("2024-01-02 03:04:05+01", DAY + 11045 - 3600),
        ("1969-12-31T23:59:59.5", -1),
    ],
)
def test_a_time_is_read_to_the_second(text: str, expected: float) -> None:
    assert seconds(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "", "2024-13-01", "2024-02-30", "2024-1-2", "02.01.2024", "01/02/2024"),
        *("2024-01-02 24:00:00", "2024-01-02 03:60", "2024-01-02 03:04:60", "2024-01-02 03"),
        *("2024-01-02T03:04:05 CET", "2024-01-02T03:04:05+25:00", "2024-01-02T", "x 2024-01-02"),
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert seconds(text) == [None]


def test_numbers_texts_and_nothing_may_take_turns() -> None:
    assert seconds("5", None, "1970-01-02", "never", "7") == [5, None, 86400, None, 7]


def test_ticks_divide_numbers_alone() -> None:
    assert seconds("5999", "1970-01-02", ticks_a_second=1000) == [5, 86400]


OFFSETS = st.integers(-23 * 60, 23 * 60).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)


@given(st.lists(st.datetimes(timezones=st.just(datetime.UTC) | OFFSETS), min_size=1), st.sampled_from(" T"))
def test_every_datetime_that_python_writes_is_read(moments: list[datetime.datetime], between: str) -> None:
    expected = [int(moment.replace(microsecond=0).timestamp()) for moment in moments]
    assert seconds(*(moment.isoformat(between) for moment in moments)) == expected
