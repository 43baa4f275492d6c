"""TARGET of `capture session replay` and `book`: a file, the folder of a session, or its id."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import read_model
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.replay.messages import Source
from capture_pipeline.replay.sources.factory import open_session_tables, open_source
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata


def replay_source(target: str, symbol: str, deployment: Deployment) -> Source:
    """Open the target of `capture session replay`; a session without tables is read from its recording.

    Raises:
        CaptureError: See `open_source`.
    """
    return open_source(_located(target, deployment), symbol, deployment.lake.tables())


def book_source(target: str, symbol: str, deployment: Deployment) -> Checkpoints | Source:
    """Open the target of `capture session book`.

    These are the checkpoints of a session with tables of its recording, otherwise the recording.

    Raises:
        CaptureError: See `open_source`.
    """
    located, tables = _located(target, deployment), deployment.lake.tables()
    path = Path(located)
    session = path.resolve().name if path.is_dir() else located
    if (path.is_dir() and _has_tables_of(path.resolve(), tables)) or not path.exists():
        return Checkpoints(*open_session_tables(session, symbol, tables))
    return open_source(located, symbol, tables)


def _located(target: str, deployment: Deployment) -> str:
    """Return the folder of a session without tables that is named by its id, otherwise the target."""
    if Path(target).exists() or _has_manifest(target, deployment.lake.tables()):
        return target
    try:
        return str(find_session(sessions_root(deployment.settings), target).path)
    except ConfigError:
        return target


def _has_manifest(session: str, tables: Path) -> bool:
    try:
        return GoldenTables(tables, session).manifest_path.is_file()
    except ConfigError:  # not an id
        return False


def _has_tables_of(folder: Path, tables: Path) -> bool:
    """Return whether the tables of a session were built from its recording, by the SHA-256."""
    session = SessionFolder(folder)
    if not _has_manifest(session.session, tables):
        return False
    metadata = read_model(session.metadata, SessionMetadata)
    digests = (
        {file.sha256 for file in metadata.files if file.name == session.recording.name} if metadata else set()
    )
    return GoldenTables(tables, session.session).manifest().recording_sha256 in digests
