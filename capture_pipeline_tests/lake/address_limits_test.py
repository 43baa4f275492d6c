"""The store of an address's limits after a kill, damage, a wrong clock and concurrent writers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.deployment.address_limits import AddressLimits

DAY_S = 86_400.0
SMALL = RateLimits(connections_per_5_minutes=10, use_percent=50)


class Clock:
    """A wall clock that the test sets."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store(path: Path, clock: Clock, limits: RateLimits = SMALL) -> AddressLimits:
    """Open the store as a new process does."""
    return AddressLimits(path / "limits.json", limits, now_s=clock)


def left_s(limits: AddressLimits, clock: Clock, part: HostGroup = HostGroup.REST) -> float:
    """Return the seconds until requests may be sent."""
    pause = limits.pause(part)
    return pause.left_s(clock.now_s) if pause else 0.0


@pytest.mark.parametrize(
    ("status", "part", "rest", "streams"),
    [
        (429, HostGroup.REST, 60, 0),
        (429, HostGroup.STREAMS, 0, 60),
        (418, HostGroup.REST, 60, 60),
        (418, HostGroup.STREAMS, 60, 60),
        (403, HostGroup.REST, 60, 60),
        (403, HostGroup.STREAMS, 60, 60),
    ],
)
def test_refusal_pauses_the_hosts_that_it_is_about(
    status: int, part: HostGroup, rest: float, streams: float, tmp_path: Path, clock: Clock
) -> None:
    """The pause applies to every process.

    A 429 is about weights or handshakes, a ban and the firewall about the address.
    """
    other = store(tmp_path, clock)
    assert other.pause(HostGroup.REST) is None
    store(tmp_path, clock).refuse(part, status, 60.0)
    assert (left_s(other, clock), left_s(other, clock, HostGroup.STREAMS)) == (rest, streams)
    assert (other.count_attempt() is None) is (streams == 0)
    clock.now_s += 60
    assert (left_s(other, clock), left_s(other, clock, HostGroup.STREAMS)) == (0, 0)
    assert other.count_attempt() is None


def test_shorter_refusal_does_not_end_a_ban_earlier(tmp_path: Path, clock: Clock) -> None:
    limits = store(tmp_path, clock)
    limits.refuse(HostGroup.REST, 418, 600.0)
    assert limits.refuse(HostGroup.REST, 429, 5.0).status == 418
    assert left_s(store(tmp_path, clock), clock) == 600


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 300, b"{", b'{"pauses": 3}', b'{"until_us": 1, "reason": "told"}', b"\xff\xfe"]
)
def test_damaged_store_is_written_anew(content: bytes, tmp_path: Path, clock: Clock) -> None:
    """Requests continue, and the next refusal is recorded."""
    (tmp_path / "limits.json").write_bytes(content)
    limits = store(tmp_path, clock)
    assert limits.pause(HostGroup.REST) is None
    assert limits.count_attempt() is None
    limits.refuse(HostGroup.REST, 418, 60.0)
    assert left_s(store(tmp_path, clock), clock) == 60


def test_store_that_cannot_be_written_is_obeyed_by_its_own_process(tmp_path: Path, clock: Clock) -> None:
    """A folder is in the place of the file; limits and attempts are kept in memory."""
    (tmp_path / "limits.json").mkdir()
    limits = store(tmp_path, clock)
    assert [limits.count_attempt() is None for _ in range(6)] == [True] * 5 + [False]
    limits.refuse(HostGroup.REST, 418, 60.0)
    assert left_s(limits, clock) == 60
    (tmp_path / "limits.json").rmdir()
    assert left_s(limits, clock) == 60
    limits.refuse(HostGroup.REST, 418, 70.0)
    assert left_s(store(tmp_path, clock), clock) == 70


def test_ban_of_a_wrong_clock_lasts_as_long_as_it_was_stated(tmp_path: Path, clock: Clock) -> None:
    """A ban recorded ten years ahead starts once the clock is corrected, for all processes."""
    right_s = clock.now_s
    clock.now_s += 3650 * DAY_S
    store(tmp_path, clock).refuse(HostGroup.REST, 418, 120.0)
    clock.now_s = right_s
    assert left_s(store(tmp_path, clock), clock) == 120
    clock.now_s += 100
    assert left_s(store(tmp_path, clock), clock) == 20
    clock.now_s += 21
    assert left_s(store(tmp_path, clock), clock) == 0


def test_no_pause_lasts_longer_than_three_days(tmp_path: Path, clock: Clock) -> None:
    """This limits both the stated pause and the one in the file."""
    limits = store(tmp_path, clock)
    limits.refuse(HostGroup.REST, 418, 3650 * DAY_S)
    assert left_s(limits, clock) == 3 * DAY_S
    now_us = round(clock.now_s * 1e6)
    years = f'{{"since_us": {now_us}, "until_us": {now_us * 2}, "status": 418}}'
    (tmp_path / "limits.json").write_text(f'{{"pauses": {{"rest": {years}}}}}')
    assert left_s(limits, clock) == 3 * DAY_S
    clock.now_s += 2 * DAY_S
    assert left_s(store(tmp_path, clock), clock) == DAY_S


def test_attempts_beyond_the_share_of_the_limit_wait_for_the_oldest(tmp_path: Path, clock: Clock) -> None:
    """The share is half of ten in five minutes, counted over all processes."""
    for _ in range(5):
        assert store(tmp_path, clock).count_attempt() is None
        clock.now_s += 10
    pause = store(tmp_path, clock).count_attempt()
    assert pause is not None
    assert pause.left_s(clock.now_s) == 250
    assert pause.text.startswith(
        "5 of 10 connection attempts in five minutes are used; the next one is allowed at 20"
    )
    clock.now_s += 250
    assert store(tmp_path, clock).count_attempt() is None
    assert store(tmp_path, clock).count_attempt() is not None


def test_attempts_of_a_wrong_clock_are_forgotten_after_five_minutes(tmp_path: Path, clock: Clock) -> None:
    """They count from the time at which the clock was corrected."""
    clock.now_s += 3650 * DAY_S
    limits = store(tmp_path, clock)
    assert [limits.count_attempt() is None for _ in range(6)] == [True] * 5 + [False]
    clock.now_s -= 3650 * DAY_S
    assert limits.count_attempt() is not None
    clock.now_s += 301
    assert limits.count_attempt() is None


WRITER = """
import sys
from pathlib import Path
from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.deployment.address_limits import AddressLimits
limits = AddressLimits(Path(sys.argv[1]), RateLimits(connections_per_5_minutes=2000, use_percent=100))
print("ready", flush=True)
if sys.argv[2] == "ban":
    sys.stdin.readline()
    limits.refuse(HostGroup.REST, 429, 600.0)
for number in range(int(sys.argv[3])):
    limits.count_attempt()
    print(number + 1, flush=True)
"""


def writer(path: Path, kind: str, attempts: int) -> subprocess.Popen[str]:
    """Run a process that counts attempts; it first records a refusal on request."""
    command = [sys.executable, "-c", WRITER, str(path), kind, str(attempts)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def attempts_of(path: Path, limits: RateLimits) -> int:
    """Return the count of attempts in the store."""
    left = 0
    while AddressLimits(path, limits).count_attempt() is None:
        left += 1
    return limits.connections_per_5_minutes - left


def test_processes_that_write_together_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Three processes record forty attempts each, and one of them records a refusal."""
    path = tmp_path / "limits.json"
    started = [writer(path, kind, 40) for kind in ("attempts", "attempts", "ban")]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    started[2].communicate("go\n", timeout=60)
    for one in started[:2]:
        one.communicate(timeout=60)
    pause = AddressLimits(path, RateLimits()).pause(HostGroup.REST)
    assert pause is not None
    assert pause.left_s(time.time()) > 500
    assert attempts_of(path, RateLimits(connections_per_5_minutes=130, use_percent=100)) == 120


def test_killed_writer_leaves_a_sound_store(tmp_path: Path) -> None:
    """The kill is at any position of a write: earlier counts and the ban stay, and the lock is free."""
    path = tmp_path / "limits.json"
    AddressLimits(path, RateLimits()).refuse(HostGroup.REST, 429, 600.0)
    counted = 0
    for more in (1, 3, 7):
        one = writer(path, "attempts", 100)
        assert one.stdout is not None
        lines = [one.stdout.readline() for _ in range(more + 1)]
        one.kill()
        lines += one.communicate()[0].splitlines()
        counted += int(lines[-1])
    most = RateLimits(connections_per_5_minutes=400, use_percent=100)
    limits = AddressLimits(path, most)
    assert limits.pause(HostGroup.REST) is not None
    begun = time.monotonic()
    limits.count_attempt()
    assert time.monotonic() - begun < 1.0
    assert counted <= attempts_of(path, most) - 1 <= counted + 3
