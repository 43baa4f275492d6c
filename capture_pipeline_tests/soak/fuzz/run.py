"""Program `make fuzz`: run the parsers of external bytes on damaged input until the time is over.

    .venv/bin/python -m capture_pipeline_tests.soak.fuzz.run --minutes 10 --seed 1 --target "kline CSV"

A parser must return a value or raise `CaptureError`, within limits of time and memory. Any other result ends
the run with exit code 1; the seed is printed and the input is saved. The target `recording lines` also
compares every value with that of msgspec.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from capture_pipeline.errors import CaptureError
from capture_pipeline_tests.soak.fuzz.damage import damage
from capture_pipeline_tests.soak.fuzz.file_targets import FILE_TARGETS
from capture_pipeline_tests.soak.fuzz.targets import TARGETS, Target

ALL: dict[str, Target] = {**TARGETS, **FILE_TARGETS}
MAX_SECONDS, MAX_GROWTH_MB = 20.0, 600
_TURN_S = 2.0


class FuzzError(AssertionError):
    """An input that a parser neither accepts nor rejects with `CaptureError`."""


class _OverdueError(BaseException):
    """Time limit; derived from BaseException, so that no parser catches it."""


def build_case(name: str, seed: int, number: int) -> bytes:
    """Build the input of one case; the same arguments give the same input."""
    rng = random.Random(f"{name} {seed} {number}")  # noqa: S311 - repeatable, not secret
    return damage(rng, ALL[name].seeds)


def try_case(name: str, data: bytes, folder: Path) -> bool:
    """Parse one input.

    Returns:
        Whether the parser accepted the input.

    Raises:
        FuzzError: The parser raised an error other than CaptureError, or exceeded the time or memory limit.
    """
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _limit_time():
            ALL[name].run(data, folder)
    except CaptureError as error:
        if "\n" in str(error):
            raise FuzzError(f"the error has several lines: {str(error)[:300]!r}") from None
        return False
    except KeyboardInterrupt:
        raise
    except _OverdueError:
        raise FuzzError(f"took longer than {MAX_SECONDS:g} s") from None
    except BaseException as error:
        raise FuzzError(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        growth_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) // 1024
    if growth_mb > MAX_GROWTH_MB:
        raise FuzzError(f"took {growth_mb:,} MB")
    return True


@contextmanager
def _limit_time() -> Iterator[None]:
    def overdue(_: int, __: FrameType | None) -> None:
        raise _OverdueError

    previous = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def save(data: bytes, name: str, folder: Path) -> Path:
    """Save an input that caused a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Fuzz until the time is over; return 1 at the first failure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--target", action="append", choices=sorted(ALL), help="run this target only; may be repeated"
    )
    parser.add_argument(
        "--save", type=Path, default=Path("fuzz-failures"), help="folder for inputs that cause a failure"
    )
    options = parser.parse_args(arguments)
    counts, accepted_counts = Counter[str](), Counter[str]()
    names = options.target or list(ALL)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in names:  # the first use compiles kernels, which can take longer than the time limit
            for seed in ALL[name].seeds:
                with suppress(Exception):
                    ALL[name].run(seed, Path(folder))
        deadline = time.monotonic() + 60 * options.minutes
        while time.monotonic() < deadline:
            for name in names:
                turn_end = min(deadline, time.monotonic() + _TURN_S)
                while time.monotonic() < turn_end:
                    number = counts[name]
                    data = build_case(name, options.seed, number)
                    try:
                        accepted_counts[name] += try_case(name, data, Path(folder))
                    except FuzzError as error:
                        path = save(data, name, options.save)
                        sys.stdout.write(
                            f"{name}, seed {options.seed}, case {number:,}: {error}\nthe input is in {path}\n"
                        )
                        return 1
                    counts[name] += 1
    for name in names:
        sys.stdout.write(f"{name:28} {counts[name]:>10,} inputs, {accepted_counts[name]:>10,} accepted\n")
    sys.stdout.write(
        f"{counts.total():,} inputs in {options.minutes:g} minutes, seed {options.seed}: no failure\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
