"""Generated diffs as a session: a raw recording in the exchange's layout, and its typed tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isal import igzip

from capture_pipeline.feasibility.replay_throughput.synthetic_events import generate_events
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import storage_errors
from capture_pipeline.replay.messages import CAPTURE, EVENT, FIRST, KIND, LAST, SNAPSHOT, Messages

SESSION, SYMBOL = "20260803T123000Z_made_btcusdt", "BTCUSDT"
_LINES_A_MEMBER = 500


def recording_of(folder: Path) -> Path:
    """Return the path of the raw recording."""
    return folder / f"btcusdt_capture_{SESSION.split('_', maxsplit=1)[0]}.jsonl.gz"


def tables_of(folder: Path) -> GoldenTables:
    """Return the tables of the session."""
    return GoldenTables(folder / "lake", SESSION)


def make_session(folder: Path, events: int) -> None:
    """Write recording and tables, unless they exist.

    Args:
        folder: Folder for this session only.
        events: Number of level updates of all diffs.

    Raises:
        StorageError: A file cannot be written.
    """
    if tables_of(folder).manifest_path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    recording = recording_of(folder)
    with storage_errors(recording), recording.open("wb") as file:
        for messages in generate_events(events):
            lines = list(_format_lines(messages))
            for at in range(0, len(lines), _LINES_A_MEMBER):
                file.write(igzip.compress(b"".join(lines[at : at + _LINES_A_MEMBER]), 2))
    convert(recording, SESSION, folder / "lake")


def _format_lines(messages: Messages) -> Iterator[bytes]:
    prices, lots = messages.batch.prices.tolist(), messages.batch.lots.tolist()
    levels = [
        b'["%d.%02d000000","%d.%08d"]' % (*divmod(price, 100), *divmod(lot, 10**8))
        for price, lot in zip(prices, lots, strict=True)
    ]
    for row, (start, middle, end) in zip(
        messages.rows.T.tolist(), messages.batch.bounds.T.tolist(), strict=True
    ):
        bids, asks = b",".join(levels[start:middle]), b",".join(levels[middle:end])
        if row[KIND] == SNAPSHOT:
            form = (
                b'{"capture_ns":%d,"stream":"btcusdt@depthSnapshot","data":'
                b'{"lastUpdateId":%d,"bids":[%b],"asks":[%b]}}\n'
            )
            yield form % (row[CAPTURE], row[LAST], bids, asks)
            continue
        form = (
            b'{"capture_ns":%d,"stream":"btcusdt@depth@100ms","data":'
            b'{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[%b],"a":[%b]}}\n'
        )
        yield form % (row[CAPTURE], row[EVENT] // 1000, row[FIRST], row[LAST], bids, asks)
