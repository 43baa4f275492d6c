"""`make fuzz`: the parsers of bytes from outside on damaged input, in turn, until the time is over.

    .venv/bin/python -m capture_pipeline_tests.fuzz.run --minutes 10 --seed 1 --target "kline CSV"

An input may give a value or an error of the project (`CaptureError`), within bounded time and memory. Anything else ends the run with exit
code 1; the seed of the input is printed, and the input is saved. The target `recording lines` also compares every value with msgspec's.
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
from capture_pipeline_tests.fuzz.file_targets import FILE_TARGETS
from capture_pipeline_tests.fuzz.harms import mutated
from capture_pipeline_tests.fuzz.targets import TARGETS, Target

ALL: dict[str, Target] = {**TARGETS, **FILE_TARGETS}
MAX_SECONDS, MAX_GROWTH_MB = 20.0, 600
_A_TURN_S = 2.0


class FuzzError(AssertionError):
    """An input that a parser neither took nor refused."""


class _OverdueError(BaseException):
    """No parser may catch it."""


def case_of(name: str, seed: int, number: int) -> bytes:
    """The input of one case; the same for the same arguments."""
    return mutated(random.Random(f"{name} {seed} {number}"), ALL[name].seeds)  # noqa: S311 - repeatable, not secret


def try_case(name: str, data: bytes, folder: Path) -> bool:
    """Parse one input.

    Returns:
        Whether the parser took it.

    Raises:
        FuzzError: It raised an error of another kind, or exceeded the limits of time or memory.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _limited():
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
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    if grown > MAX_GROWTH_MB:
        raise FuzzError(f"took {grown:,} MB")
    return True


@contextmanager
def _limited() -> Iterator[None]:
    def overdue(_: int, __: FrameType | None) -> None:
        raise _OverdueError

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def save(data: bytes, name: str, folder: Path) -> Path:
    """Keep an input at fault."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Fuzz until the time is over; 1 at the first input at fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--target", action="append", choices=sorted(ALL), help="only this one; may be repeated"
    )
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"), help="folder for inputs at fault")
    given = parser.parse_args(arguments)
    counts, taken = Counter[str](), Counter[str]()
    names = given.target or list(ALL)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in names:  # compiles what is compiled at first use, which can take longer than an input may
            for seed in ALL[name].seeds:
                with suppress(Exception):
                    ALL[name].run(seed, Path(folder))
        until = time.monotonic() + 60 * given.minutes
        while time.monotonic() < until:
            for name in names:
                turn = min(until, time.monotonic() + _A_TURN_S)
                while time.monotonic() < turn:
                    number = counts[name]
                    data = case_of(name, given.seed, number)
                    try:
                        taken[name] += try_case(name, data, Path(folder))
                    except FuzzError as error:
                        path = save(data, name, given.save)
                        sys.stdout.write(
                            f"{name}, seed {given.seed}, case {number:,}: {error}\nthe input is in {path}\n"
                        )
                        return 1
                    counts[name] += 1
    for name in names:
        sys.stdout.write(f"{name:28} {counts[name]:>10,} inputs, {taken[name]:>10,} taken\n")
    sys.stdout.write(
        f"{counts.total():,} inputs in {given.minutes:g} minutes, seed {given.seed}: none at fault\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
