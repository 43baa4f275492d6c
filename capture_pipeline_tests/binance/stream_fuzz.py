"""`make fuzz`: the parser of raw recordings against its reference, on damaged blocks, for minutes. Exit code 1 with the block at fault.

    .venv/bin/python -m capture_pipeline_tests.binance.stream_fuzz --minutes 10 --seed 1

Every block is sound lines with bytes changed, cut, doubled or put in from other lines. The parser has to give what msgspec gives, line for
line and value for value, or refuse what it refuses.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from capture_pipeline.errors import MalformedData
from capture_pipeline_tests.binance.stream_kernel_test import DIFF, SNAPSHOT, TICKER, TRADE, UM_LINES, check_mutant, reference

_DIGITS = b"0123456789"
_LIKELY = b'0123456789.,:"{}[]\\-+eE \n\x00\xff'
_SOUND = (TRADE, DIFF, SNAPSHOT, TICKER, *UM_LINES)


def mutated(chance: random.Random, lines: list[bytes]) -> bytes:  # noqa: C901 - one case a kind of harm
    """A block of lines with a few harms."""
    block = bytearray(b"".join(lines))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(block) + 1)
        reach = chance.choice((1, 1, 2, 8, 40))
        match chance.randrange(7):
            case 0:
                block[at : at + 1] = bytes([chance.choice(_LIKELY)])
            case 1:
                del block[at : at + reach]
            case 2:
                block[at:at] = block[at : at + reach]
            case 3:
                block[at:at] = bytes(chance.choice(_LIKELY) for _ in range(reach))
            case 4:
                source = chance.choice(_SOUND)
                start = chance.randrange(len(source))
                block[at : at + reach] = source[start : start + reach]
            case 5:
                block[at:at] = bytes(chance.choice(_DIGITS) for _ in range(reach))
            case _:
                block[at : at + 1] = bytes([chance.randrange(256)])
    if not block.endswith(b"\n"):
        block += b"\n"
    return bytes(block)


def main() -> int:
    """Fuzz until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 - repeatable, not secret
    until, blocks, sound, size = time.monotonic() + 60 * given.minutes, 0, 0, 0
    while time.monotonic() < until:
        block = mutated(chance, chance.choices(_SOUND, k=chance.randint(1, 5)))
        try:
            check_mutant(block)
        except (AssertionError, MalformedData, ValueError, IndexError) as error:
            sys.stdout.write(f"seed {given.seed}, block {blocks:,}: {error!r}\n{block!r}\n")
            return 1
        blocks, size = blocks + 1, size + len(block)
        sound += blocks % 50 == 0 and reference(block) is not None
    sys.stdout.write(
        f"{blocks:,} blocks, {size / 1e6:,.1f} MB in {given.minutes:g} minutes, seed {given.seed}: no crash, no wrong value; "
        f"of one in fifty {sound:,} were still sound\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
