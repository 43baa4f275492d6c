"""`make memory-over-time`: measure the memory of a recorder each second for minutes; exit code 1 if it grows.

    .venv/bin/python -m capture_pipeline_tests.soak.memory_over_time --minutes 20

The start and the filling of caches grow too, so the slope is that of the later half, by least squares. It is
also given in MB per hour of market time, because the market runs faster than the clock.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import linear_regression, median

from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

_MB = 1 << 20
_AUDITS = {"CAPTURE_RECORDING_AUDIT_MINUTES": "3", "CAPTURE_RECORDING_FLUSH_S": "1"}
_MOST_MB_A_MARKET_DAY = 50.0


def sample_memory(minutes: float, speed: float, root: Path) -> tuple[list[tuple[float, float]], int]:
    """Record, and measure the resident memory each second.

    Returns:
        Seconds and MB, and the count of recorded messages.
    """
    samples: list[tuple[float, float]] = []
    with exchange(root, {"frozen": False, "speed": speed, "symbols": [BUSY]}) as sandbox:
        session = Live(sandbox, minutes * 60 + 600, [str(BUSY["symbol"])])
        session.start(**_AUDITS)
        try:
            session.recording()
            started = time.monotonic()
            while (passed := time.monotonic() - started) < minutes * 60:
                assert session.process is not None
                assert session.process.poll() is None
                pages = Path(f"/proc/{session.process.pid}/statm").read_text().split()[1]
                samples.append((passed, int(pages) * 4096 / _MB))
                time.sleep(1)
            status = session.status()
            session.finish()
        finally:
            if session.process is not None and session.process.poll() is None:
                session.kill()
    assert status is not None
    assert status.gaps == 0, "what was recorded is not whole"
    return samples, status.messages


def main() -> int:
    """Measure and report the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--speed", type=float, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, messages = sample_memory(given.minutes, given.speed, Path(folder))
    megabytes = [size for _, size in samples]
    later = samples[len(samples) // 2 :]
    an_hour = linear_regression([at for at, _ in later], [size for _, size in later]).slope * 3600
    a_day = an_hour * 24 / given.speed
    sys.stdout.write(
        f"{messages:,} messages in {given.minutes:g} minutes, "
        f"{given.minutes * given.speed / 60:.1f} hours of the market\n"
        f"resident memory: first {megabytes[0]:.1f} MB, median {median(megabytes):.1f}, "
        f"most {max(megabytes):.1f}, last {megabytes[-1]:.1f}\n"
        f"slope of the later half: {an_hour:+.2f} MB an hour; {a_day:+.2f} MB a day of the market\n"
    )
    return int(a_day > _MOST_MB_A_MARKET_DAY)


if __name__ == "__main__":
    sys.exit(main())
