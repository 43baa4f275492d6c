"""Which finished sessions should be proved now. Decides by the exchange's clock and asks the exchange for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, from_us
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.proof.captured_trades import last_trade_us
from capture_pipeline.golden.proof.prover import unprovable
from capture_pipeline.golden.proof.report import State, read_proof
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.paths import Lake
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan

LOOK_BACK_US = 14 * DAY_US
"""Older sessions are proved by hand."""


@dataclass
class Due:
    """What was found.

    Attributes:
        wanted: Sessions whose proof is missing, waits or could not be made of every file, and whose days should be published.
        later: How many are proved once their days should be published.
        damaged: Sessions that could not be judged, with the reason.
    """

    wanted: list[str] = field(default_factory=list)
    later: int = 0
    damaged: dict[str, CaptureError] = field(default_factory=dict)


def due_sessions(lake: Lake, folders: Iterable[SessionFolder], now_us: int) -> Due:
    """The finished sessions to prove; one without tables is left until it has them.

    Args:
        lake: With tables and proofs.
        folders: Of all sessions.
        now_us: By the exchange's clock.
    """
    found = Due()
    for folder in folders:
        if not folder.metadata.exists():
            continue
        try:
            due = _due(lake, folder)
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


def _due(lake: Lake, folder: SessionFolder) -> int | None:
    """When the last file that its proof wants should be out; None where there is nothing to prove, nothing to prove it with, or a proof."""
    plan = read_model(folder.plan, SessionPlan)
    if plan is not None and unprovable(plan):
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
