"""Sessions as dynamic partitions: the key is the session's id, checked before it becomes part of a path."""

from pathlib import Path

import dagster as dg

from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.sessions.layout import SessionFolder, valid_session

SESSIONS = dg.DynamicPartitionsDefinition(name="sessions")


def root(workspace: Workspace) -> Path:
    """Where a deployment's sessions lie."""
    return sessions_root(workspace.settings)


def folder_of(workspace: Workspace, key: str) -> SessionFolder:
    """The folder of a partition's session.

    Raises:
        ConfigError: The key is no session id, or there is no such session.
    """
    return find_session(root(workspace), valid_session(key))
