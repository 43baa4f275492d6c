"""Checks of the machine and the exchange before a recording. `recorder/preflight` evaluates them."""

from __future__ import annotations

from capture_pipeline.checks.model import Bound, CheckSpec, Threshold

_MAX_FSYNC_MS, _MIN_FILES = 100, 256

FREE_DISK = CheckSpec(
    "free disk",
    "The disk has space for a session.",
    settings=("recording.free_disk_gb",),
    remedy="free disk space, or lower recording.free_disk_gb",
)
FSYNC = CheckSpec(
    "fsync latency",
    "The longest of several syncs is short.",
    threshold=Threshold(Bound.AT_MOST, _MAX_FSYNC_MS, "ms"),
    remedy=f"record to a disk that syncs within {_MAX_FSYNC_MS} ms",
)
OPEN_FILES = CheckSpec(
    "open files",
    "The process may open enough files.",
    threshold=Threshold(Bound.AT_LEAST, _MIN_FILES, "files"),
    remedy=f"run `ulimit -n {_MIN_FILES}` first, or with a higher number",
)
NETWORK = CheckSpec("network", "The settings of proxies and certificates are usable.")
REQUESTS = CheckSpec("requests", "REST answers each request of a series.")
CLOCK_OFFSET = CheckSpec(
    "clock offset",
    "The clock agrees with that of the exchange; with the sandbox, any clock is accepted.",
    threshold=Threshold(Bound.AT_MOST, 1000, "ms"),
    remedy="synchronize the clock with NTP",
)
ROUND_TRIP = CheckSpec(
    "round trip",
    "The median time of an answer is short.",
    threshold=Threshold(Bound.AT_MOST, 2000, "ms"),
    remedy="record on a machine nearer to the exchange",
)
SYMBOLS = CheckSpec("symbols", "The exchange lists each symbol.")
JITTER = CheckSpec(
    "jitter",
    "The times of answers differ little.",
    threshold=Threshold(Bound.AT_MOST, 500, "ms"),
    remedy="use a network with stable delays",
)
TEST_CAPTURE = CheckSpec("test capture", "Each stream sends messages in the form that a session records.")
RECORD = CheckSpec("record", "The record of the preflight can be written.")
PREFLIGHT_CHECKS = (
    FREE_DISK,
    FSYNC,
    OPEN_FILES,
    NETWORK,
    REQUESTS,
    CLOCK_OFFSET,
    ROUND_TRIP,
    SYMBOLS,
    JITTER,
    TEST_CAPTURE,
    RECORD,
)
"""All checks, in the order of their evaluation."""
