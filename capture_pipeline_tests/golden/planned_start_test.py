"""Test of the validation of a session that started late."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline_tests.support.sessions.lines import START_NS, recording, session


def test_a_session_that_began_late_says_so_with_its_duration(tmp_path: Path) -> None:
    """The delay is always a figure, and is part of the reason from some seconds on."""
    folder = session(tmp_path, recording())
    plan = SessionPlan.model_validate_json(folder.plan.read_bytes())
    for late_s, told in ((0.0, False), (2.5, False), (70.0, True)):
        folder.plan.write_text(
            plan.model_copy(update={"start_us": START_NS // 1000 - round(late_s * 1e6)}).model_dump_json()
        )
        check = validate(folder.path, DEFAULTS).check("duration")
        assert check.figures["late_s"] == late_s
        assert ("the recording began 70.0 s after its planned start" in check.reason) == told
