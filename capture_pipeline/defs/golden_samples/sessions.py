"""Sessions as dynamic partitions. The partition key is the id of the session."""

from pathlib import Path

import dagster as dg

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.sessions.layout import SessionFolder, valid_session

SESSIONS = dg.DynamicPartitionsDefinition(name="sessions")


def sessions_folder(deployment: Deployment) -> Path:
    """Return the folder that contains the sessions of a deployment."""
    return sessions_root(deployment.settings)


def find_session_folder(deployment: Deployment, key: str) -> SessionFolder:
    """Return the folder of a session.

    Args:
        key: Partition key; it is validated before it becomes part of a path.

    Raises:
        ConfigError: The key is not a session id, or the session does not exist.
    """
    return find_session(sessions_folder(deployment), valid_session(key))
