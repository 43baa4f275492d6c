"""Files of a session and their names. Only this module joins such paths.

golden_samples/high_volume/20260803T143000Z_high_volume_btcusdt/
    session.json                                    the plan, written before the first message
    ending.json                                     request to end, and the final state
    btcusdt_capture_20260803T143000Z.jsonl.gz       the recording; with `.part` at the end while it grows
    gaps.jsonl                                      the gap ledger, one line per gap
    events.jsonl                                    connections, snapshots, audits, clock steps, disk errors
    refilled_trades.jsonl                           lost trades from REST; they have no capture time
    recorder.log                                    output of a recorder in the background
    status.json                                     replaced each second during the recording
    session.lock                                    locked by the recorder
    account.json  checkpoint.json                   counts of an unfinished session
    quarantine/                                     torn tails and damaged parts, unchanged
    metadata.json  checksums.txt                    written last: readers trust only the files they list
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import parse_count

FOLDER = "golden_samples"
_MAX_SHOWN = 80
_REGIME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SESSION = re.compile(
    r"[0-9]{8}T[0-9]{6}Z_(?:[a-z0-9][a-z0-9_-]{0,39}_)?([^_]+?)(?:-plus[0-9]{1,4}-[0-9a-f]{4})?"
)


def valid_regime(text: str) -> str:
    """Return `text` if it can name a regime.

    Raises:
        ConfigError: `text` is not a valid name of a regime; this also keeps `../` out of paths.
    """
    if not _REGIME.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not a valid regime",
            remedy="use small letters, digits, _ and -, for instance high_volume",
        )
    return text


def valid_session(text: str) -> str:
    """Return `text` if it can be the id of a session.

    Raises:
        ConfigError: `text` does not have the form of a session id.
    """
    found = _SESSION.fullmatch(text)
    if not found or not _is_label(found[1]):
        raise ConfigError(
            f"{text[:_MAX_SHOWN]!r} is not a session id", remedy="see the ids in `capture session list`"
        )
    return text


def symbols_label(symbols: list[str]) -> str:
    """Return the symbols as they appear in names: `btcusdt`, or `btcusdt-plus9-1f3a` for ten symbols.

    The last part is a hash of all symbols. `_` in a symbol becomes `-`, because `_` separates the parts of a
    name.
    """
    label = symbols[0].lower().replace("_", "-")
    if len(symbols) == 1:
        return label
    return f"{label}-plus{len(symbols) - 1}-{hashlib.sha256(','.join(symbols).encode()).hexdigest()[:4]}"


def format_stamp(start_us: int) -> str:
    """Format a start time for names: 20260803T143000Z."""
    return datetime.fromtimestamp(start_us // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def session_id(symbols: list[str], start_us: int, regime: str = "") -> str:
    """Return an id such as `20260803T143000Z_high_volume_btcusdt`; without a regime that part is omitted."""
    return "_".join(part for part in (format_stamp(start_us), regime, symbols_label(symbols)) if part)


def _is_label(label: str) -> bool:
    """Return whether `label` is the label of a valid symbol."""
    symbol = label.upper().replace("-", "_")
    try:
        return symbols_label([validate_symbol(symbol)]) == label
    except ConfigError:
        return False


@dataclass(frozen=True)
class SessionFolder:
    """Folder of one session, with the paths in it."""

    path: Path

    @classmethod
    def under(cls, root: Path, regime: str, session: str) -> SessionFolder:
        """Return the folder of a session below the root of all sessions (`…/golden_samples`)."""
        return cls(root / valid_regime(regime) / valid_session(session))

    @property
    def session(self) -> str:
        """Id of the session."""
        return self.path.name

    @property
    def recording(self) -> Path:
        """Path of the finished recording."""
        start, label = self.session.split("_", 1)[0], self.session.rsplit("_", 1)[-1]
        return self.path / f"{label}_capture_{start}.jsonl.gz"

    @property
    def growing(self) -> Path:
        """Path of the recording while it grows."""
        return self.recording.with_name(self.recording.name + ".part")

    def segment(self, number: int) -> Path:
        """Return a part of the growing recording.

        There is more than one part only after a failed fsync, or after a part was removed or altered.
        """
        return self.growing if number == 1 else self.growing.with_name(f"{self.growing.name}{number}")

    def numbered_segments(self) -> dict[int, Path]:
        """Return the existing parts by number, in order; a removed part is missing."""
        start = len(self.growing.name)
        found = {
            parse_count(path.name[start:] or "1"): path for path in self.path.glob(f"{self.growing.name}*")
        }
        numbered = {number: path for number, path in found.items() if number is not None}
        return {number: numbered[number] for number in sorted(numbered)}

    def segments(self) -> list[Path]:
        """Return the existing parts, in order."""
        return list(self.numbered_segments().values())

    def files(self) -> list[Path]:
        """Return the existing files of a finished session, the recording first."""
        quarantined = sorted(self.quarantine.glob("*")) if self.quarantine.is_dir() else []
        candidates = [self.recording, self.plan, self.gaps, self.events, self.refilled, *quarantined]
        return [path for path in candidates if path.is_file()]

    @property
    def plan(self) -> Path:
        """Path of the plan."""
        return self.path / "session.json"

    @property
    def ending(self) -> Path:
        """Path of the request to end; while it exists, the session is only finished and not recorded."""
        return self.path / "ending.json"

    @property
    def gaps(self) -> Path:
        """Path of the gap ledger."""
        return self.path / "gaps.jsonl"

    @property
    def events(self) -> Path:
        """Path of the event log."""
        return self.path / "events.jsonl"

    @property
    def refilled(self) -> Path:
        """Path of the trades that were requested from REST."""
        return self.path / "refilled_trades.jsonl"

    @property
    def status(self) -> Path:
        """Path of the status of the recorder."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Path of the file that the recorder locks."""
        return self.path / "session.lock"

    @property
    def checkpoint(self) -> Path:
        """Path of the last checkpoint of the growing recording."""
        return self.path / "checkpoint.json"

    @property
    def account(self) -> Path:
        """Path of the account of received messages."""
        return self.path / "account.json"

    @property
    def log(self) -> Path:
        """Path of the output of a recorder in the background."""
        return self.path / "recorder.log"

    @property
    def quarantine(self) -> Path:
        """Path of the folder for damaged bytes."""
        return self.path / "quarantine"

    @property
    def metadata(self) -> Path:
        """Path of the metadata, the commit point of the session."""
        return self.path / "metadata.json"

    @property
    def checksums(self) -> Path:
        """Path of the checksums, in the format of `sha256sum -c`."""
        return self.path / "checksums.txt"
