"""Live session of the demo: recorded, validated, converted and proved.

One of the two connections is closed during the recording. The proof compares the session with the trades and
klines that the sandbox publishes two days later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.binance.http.session import new_session
from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.cli.console import progress
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import SessionProof, read_proof
from capture_pipeline.golden.tables import GoldenManifest
from capture_pipeline.golden.validation.report import Report
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.recorder.lifecycle import create_plan, list_sessions, prepare, sessions_root
from capture_pipeline.recorder.process import follow, read_finished_metadata
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.settings.loader import load_settings
from sandbox_exchange.config.models import load_config
from sandbox_exchange.server.server import SandboxServer

SECONDS = 20
_CUT_AT_S = 6
_SYMBOL, _REGIME = "BTCUSDT", "demo"


@dataclass(frozen=True)
class Recorded:
    """Result of the session.

    Attributes:
        folder: Folder of the session.
        metadata: Metadata of the session.
        report: Result of the validation.
        tables: Tables of the session.
        proof: Comparison with published trades.
        is_new: Whether this demo recorded the session; otherwise an earlier demo did.
    """

    folder: SessionFolder
    metadata: SessionMetadata
    report: Report
    tables: GoldenManifest
    proof: SessionProof
    is_new: bool


def recorded_session(settings_file: Path, live_file: Path) -> Recorded:
    """Record a short session, or use that of an earlier demo; validate, convert and prove the session.

    Raises:
        CaptureError: A step failed.
    """
    deployment = Deployment(load_settings(settings_file, {}))
    found = [
        folder for folder in list_sessions(sessions_root(deployment.settings)) if folder.metadata.exists()
    ]
    folder = found[0] if found else _record(settings_file, live_file)
    report = validate(folder.path, Thresholds.from_settings(deployment.settings.session_gates), book=True)
    tables = convert(folder.recording, folder.session, deployment.lake.tables())
    proof = read_proof(deployment.lake.proof(folder.session)) or _proved(settings_file, live_file, folder)
    return Recorded(folder, read_finished_metadata(folder), report, tables, proof, is_new=not found)


def _proved(settings_file: Path, live_file: Path, folder: SessionFolder) -> SessionProof:
    """Compare the session with the files of a sandbox whose clock is two days later."""
    now_us = read_finished_metadata(folder).plan.end_ns // 1000 + 2 * DAY_US
    with SandboxServer(load_config(live_file).model_copy(update={"now": now_us, "frozen": True})) as server:
        return prove(Deployment(load_settings(settings_file, {"CAPTURE_SANDBOX_URL": server.url})), folder)


def _record(settings_file: Path, live_file: Path) -> SessionFolder:
    with SandboxServer(load_config(live_file)) as server:
        environment = {"CAPTURE_SANDBOX_URL": server.url}
        settings = load_settings(settings_file, environment)
        folder = prepare(
            sessions_root(settings),
            create_plan(settings, [_SYMBOL], _REGIME, SECONDS, description="a demonstration"),
        )
        _follow(folder, settings_file, environment, server.url)
        return folder


def _follow(folder: SessionFolder, settings_file: Path, environment: Mapping[str, str], url: str) -> None:
    """Show the status of the recorder, and close one of its two connections after some seconds."""
    with progress("session", SECONDS) as tell:
        is_cut = False
        for second, status in enumerate(follow(folder, settings_file, environment)):
            if status is None:
                continue
            if not is_cut and second >= _CUT_AT_S and len(status.connections) > 1:
                is_cut = True
                with new_session(None) as session:
                    session.post(
                        f"{url}/_sandbox/streams", json={"connection": 1, "fault": "ws_reset"}, timeout=5
                    )
            tell(f"{status.messages:,} messages, {status.gaps} gaps, {len(status.connections)} connections")
