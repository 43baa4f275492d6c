"""The time to wait that a refusal states in a header or in the body."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from capture_pipeline.binance.http.pauses import Pause
from capture_pipeline.binance.http.refusals import DEFAULT_WAIT_S, MAX_WAIT_S, parse_wait

NOW_S = 1_700_000_000.0
DAY_S = 86_400.0


def banned_until(end_s: float) -> bytes:
    """Return the body of a ban."""
    return (
        b'{"code":-1003,"msg":"Way too many requests; IP banned until %d. Please use WebSocket Streams."}'
        % round(end_s * 1000)
    )


@pytest.mark.parametrize(
    ("status", "header", "body", "wait_s"),
    [
        (418, None, banned_until(NOW_S + 600), 600),
        (418, None, b'{"code":-1003,"msg":"IP(10.0.0.1) banned until 1700000600000"}', 600),
        (418, "30", banned_until(NOW_S + 600), 600),
        (418, "600", banned_until(NOW_S + 30), 600),
        (418, "600", b"", 600),
        (429, None, banned_until(NOW_S + 600), 600),
        (429, "7", b'{"code":-1003,"msg":"Too many requests."}', 7),
        (429, None, b"", 60),
        (418, None, b"", 120),
        (403, None, b"<HTML>Request blocked.</HTML>", 120),
        (403, "9", b"", 9),
        (418, None, banned_until(NOW_S - 600), 120),
        (418, None, b"banned until 17000006000001", 120),
        (418, None, b"banned until tomorrow", 120),
        (418, None, banned_until(NOW_S + 3650 * DAY_S), 3 * DAY_S),
        (418, "1e9", b"", 3 * DAY_S),
        (418, "soon", b"", 120),
    ],
)
def test_wait_is_the_longest_that_the_answer_states(
    status: int, header: str | None, body: bytes, wait_s: float
) -> None:
    """The wait is from one second to three days, with a default if the answer states none."""
    headers = CaseInsensitiveDict({"Retry-After": header} if header is not None else {})
    assert parse_wait(status, headers, body, NOW_S) == wait_s


@pytest.mark.parametrize(
    "date", [formatdate(NOW_S - 7200, usegmt=True), "yesterday", "", "Tue, 14 Nov 2023 20:13:20"]
)
def test_end_in_the_body_is_by_the_clock_of_the_exchange(date: str) -> None:
    """The header `Date` has the exchange's time; without a usable one, the local clock is used."""
    headers = CaseInsensitiveDict({"Date": date})
    expected = 600 if date.endswith("GMT") else 120
    assert parse_wait(418, headers, banned_until(NOW_S - 7200 + 600), NOW_S) == expected


@given(
    st.sampled_from(sorted(DEFAULT_WAIT_S)),
    st.text(max_size=30),
    st.text(max_size=30),
    st.binary(max_size=60),
    st.floats(0, 1e11),
)
def test_any_answer_states_a_wait_within_bounds(
    status: int, header: str, date: str, body: bytes, now_s: float
) -> None:
    wait_s = parse_wait(status, {"retry-after": header, "date": date}, b"banned until " + body, now_s)
    assert 1 <= wait_s <= MAX_WAIT_S


def test_pause_of_any_file_is_bounded() -> None:
    """A pause whose end is before its start is over."""
    pause = Pause(since_us=500, until_us=100, status=418)
    assert pause.at(400).until_us <= 400
