"""Selection of the finished sessions to prove now, by the exchange's clock and without requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, from_us
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.proof.captured_trades import last_trade_us
from capture_pipeline.golden.proof.prover import unprovable_reason
from capture_pipeline.golden.proof.report import State, read_proof
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.paths import Lake
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan

LOOK_BACK_US = 14 * DAY_US
"""Older sessions are not proved automatically."""


@dataclass
class Due:
    """Sessions by the state of their proof.

    Attributes:
        wanted: Sessions to prove now: the proof is missing or incomplete, and the files should be published.
        later: Number of sessions whose files are not due yet.
        damaged: Errors by session, for sessions that cannot be read.
    """

    wanted: list[str] = field(default_factory=list)
    later: int = 0
    damaged: dict[str, CaptureError] = field(default_factory=dict)


def find_due_sessions(lake: Lake, folders: Iterable[SessionFolder], now_us: int) -> Due:
    """Find the finished sessions to prove. A session waits until it has tables.

    Args:
        lake: Lake with tables and proofs.
        folders: Folders of all sessions.
        now_us: Time by the exchange's clock, microseconds UTC.
    """
    found = Due()
    for folder in folders:
        if not folder.metadata.exists():
            continue
        try:
            due = _find_due_us(lake, folder)
        except CaptureError as error:
            found.damaged[folder.session] = error
            continue
        if due is None or now_us - due > LOOK_BACK_US:
            continue
        if due <= now_us:
            found.wanted.append(folder.session)
        else:
            found.later += 1
    return found


def _find_due_us(lake: Lake, folder: SessionFolder) -> int | None:
    """Return the time at which the last file for a session's proof should be published.

    None if no proof is needed or possible.
    """
    plan = read_model(folder.plan, SessionPlan)
    if plan is not None and unprovable_reason(plan):
        return None
    proof = read_proof(lake.proof(folder.session))
    if proof is not None:
        return proof.due_us if proof.state in {State.WAITING, State.UNPROVED} else None
    tables = GoldenTables(lake.tables(), folder.session)
    last = last_trade_us(tables) if tables.manifest_path.exists() else None
    lost = [
        gap.end_event_us or gap.end_ns // 1000
        for gap in read_gaps(folder.gaps)
        if gap.refill and gap.filled_by is None
    ]
    newest = max([*lost, *([last] if last is not None else [])], default=None)
    return None if newest is None else due_us(from_us(newest).date())
