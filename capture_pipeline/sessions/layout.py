"""Where a session's files lie, and what they are called. Nothing else in the project joins such a path.

golden_samples/high_volume/20260803T143000Z_high_volume_btcusdt/
    session.json                                    the plan, written before the first message
    ending.json                                     that it is to end, or has ended and is being finished
    btcusdt_capture_20260803T143000Z.jsonl.gz       the recording; `.part` behind its name while it grows
    gaps.jsonl                                      the gap ledger, one line a gap
    events.jsonl                                    connections, snapshots, audits, clock steps, disk faults
    refilled_trades.jsonl                           trades that were lost live and asked for again; they have no capture time
    recorder.log                                    what a recorder in the background says
    status.json                                     renewed each second while it records
    session.lock                                    held by the recorder
    account.json  checkpoint.json                   counts of a session that is not finished
    quarantine/                                     torn tails and damaged parts, as they were
    metadata.json  checksums.txt                    written last: readers trust only what they list
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from capture_pipeline.binance.symbols import valid_symbol
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import parse_count

FOLDER = "golden_samples"
_MOST_SHOWN = 80
_REGIME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SESSION = re.compile(
    r"[0-9]{8}T[0-9]{6}Z_(?:[a-z0-9][a-z0-9_-]{0,39}_)?([^_]+?)(?:-plus[0-9]{1,4}-[0-9a-f]{4})?"
)


def valid_regime(text: str) -> str:
    """`text` itself, if it can name a regime.

    Raises:
        ConfigError: It cannot; this also keeps `../` and its like out of paths.
    """
    if not _REGIME.fullmatch(text):
        raise ConfigError(
            f"{text!r} is no regime", remedy="small letters, digits, _ and -, for instance high_volume"
        )
    return text


def valid_session(text: str) -> str:
    """`text` itself, if it can be the id of a session.

    Raises:
        ConfigError: It cannot.
    """
    found = _SESSION.fullmatch(text)
    if not found or not _is_label(found[1]):
        raise ConfigError(
            f"{text[:_MOST_SHOWN]!r} is no session id", remedy="ids are listed by `capture session list`"
        )
    return text


def symbols_label(symbols: list[str]) -> str:
    """Return what stands for the symbols in names: `btcusdt`, or `btcusdt-plus9-1f3a` for ten, with four digits of a hash of all.

    `_` of a symbol becomes `-`: in names `_` separates the label from what precedes it.
    """
    label = symbols[0].lower().replace("_", "-")
    if len(symbols) == 1:
        return label
    return f"{label}-plus{len(symbols) - 1}-{hashlib.sha256(','.join(symbols).encode()).hexdigest()[:4]}"


def format_stamp(start_us: int) -> str:
    """A session's start as it stands in names: 20260803T143000Z."""
    return datetime.fromtimestamp(start_us // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def session_id(symbols: list[str], start_us: int, regime: str = "") -> str:
    """`20260803T143000Z_high_volume_btcusdt`; without a regime that part is left out."""
    return "_".join(part for part in (format_stamp(start_us), regime, symbols_label(symbols)) if part)


def _is_label(label: str) -> bool:
    """Return whether `label` is what `symbols_label` makes of a symbol."""
    symbol = label.upper().replace("-", "_")
    try:
        return symbols_label([valid_symbol(symbol)]) == label
    except ConfigError:
        return False


@dataclass(frozen=True)
class SessionFolder:
    """The folder of one session and the paths in it.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def under(cls, root: Path, regime: str, session: str) -> SessionFolder:
        """The folder of a session below the root of all sessions (`…/golden_samples`)."""
        return cls(root / valid_regime(regime) / valid_session(session))

    @property
    def session(self) -> str:
        """Its id."""
        return self.path.name

    @property
    def recording(self) -> Path:
        """The finished recording."""
        start, label = self.session.split("_", 1)[0], self.session.rsplit("_", 1)[-1]
        return self.path / f"{label}_capture_{start}.jsonl.gz"

    @property
    def growing(self) -> Path:
        """The recording while it grows."""
        return self.recording.with_name(self.recording.name + ".part")

    def segment(self, number: int) -> Path:
        """A part of the growing recording; there is more than one only after an fsync failed or a part was removed or altered."""
        return self.growing if number == 1 else self.growing.with_name(f"{self.growing.name}{number}")

    def numbered_segments(self) -> dict[int, Path]:
        """The parts that are there by number, in order; one may be missing that somebody removed."""
        start = len(self.growing.name)
        found = {
            parse_count(path.name[start:] or "1"): path for path in self.path.glob(f"{self.growing.name}*")
        }
        numbered = {number: path for number, path in found.items() if number is not None}
        return {number: numbered[number] for number in sorted(numbered)}

    def segments(self) -> list[Path]:
        """The parts that are there, in order."""
        return list(self.numbered_segments().values())

    @property
    def plan(self) -> Path:
        """What was planned."""
        return self.path / "session.json"

    @property
    def ending(self) -> Path:
        """That it is decided to end, and how: from then on nothing is recorded any more, only finished."""
        return self.path / "ending.json"

    @property
    def gaps(self) -> Path:
        """The gap ledger."""
        return self.path / "gaps.jsonl"

    @property
    def events(self) -> Path:
        """What happened beside the messages."""
        return self.path / "events.jsonl"

    @property
    def refilled(self) -> Path:
        """Trades asked for again."""
        return self.path / "refilled_trades.jsonl"

    @property
    def status(self) -> Path:
        """What the recorder does now."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Held by the one writer."""
        return self.path / "session.lock"

    @property
    def checkpoint(self) -> Path:
        """Up to where the growing file is known to be sound."""
        return self.path / "checkpoint.json"

    @property
    def account(self) -> Path:
        """What became of each message received; overwritten in place while a recorder works."""
        return self.path / "account.json"

    @property
    def log(self) -> Path:
        """What a recorder in the background says."""
        return self.path / "recorder.log"

    @property
    def quarantine(self) -> Path:
        """What was damaged."""
        return self.path / "quarantine"

    @property
    def metadata(self) -> Path:
        """The commit point."""
        return self.path / "metadata.json"

    @property
    def checksums(self) -> Path:
        """In the form of `sha256sum -c`."""
        return self.path / "checksums.txt"
