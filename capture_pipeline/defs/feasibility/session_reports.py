"""Common part of the reports on a session: digests of the input, publication, and checks of criteria."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from capture_pipeline.checks.feasibility import list_criteria
from capture_pipeline.checks.model import Verdict
from capture_pipeline.defs.golden_samples.sessions import SESSIONS
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import build_check_result, build_check_spec
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.charts import Section, markdown, page
from capture_pipeline.tables.table import Table

SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("readings", "list", "Criteria, each with the measured value and the method"),
        dg.TableColumn("figures", "struct", "All figures by symbol"),
        dg.TableColumn("inputs", "struct", "SHA-256 of each file that was read"),
        dg.TableColumn("details", "struct", "Content of the page"),
    ]
)


def input_digests(tables: GoldenTables, used: Sequence[Table]) -> dict[str, str]:
    """Return the SHA-256 of the recording and of the used table files, by path.

    Raises:
        LakeError: The session has no tables.
    """
    manifest, names = tables.manifest(), {table.name for table in used}
    files = {file.path: file.sha256 for file in manifest.files if file.table in names}
    return {manifest.recording: manifest.recording_sha256, **files}


def publish_report(
    deployment: Deployment, found: Evidence, title: str, session: str, sections: Sequence[Section]
) -> dict[str, Any]:
    """Publish evidence and page; return the metadata of the materialization.

    Raises:
        StorageError: The evidence or the page cannot be written.
    """
    store = EvidenceStore(deployment.lake.reports())
    path = store.folder / found.asset / f"{session}.html"
    publish_bytes(path, page(title, sections).encode())
    latest = store.publish(found)
    measured: dict[str, Any] = {
        reading.criterion: reading.measured for reading in found.readings if reading.measured is not None
    }
    return {
        **measured,
        **found.figures,
        "report": md.document(*map(markdown, sections)),
        **outputs.page(path, deployment.lake.reports()),
        "evidence": latest,
        "inputs": found.inputs,
    }


def build_criterion_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Build the asset checks of the criteria that a report measures."""
    return [build_check_spec(criterion, SESSIONS, with_remedy=True) for criterion in list_criteria(asset)]


def judge_criteria(found: Evidence) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of each criterion; a criterion without a measurement fails."""
    for criterion in list_criteria(found.asset):
        result, threshold = found.judge(criterion), criterion.threshold
        measured = {} if result.measured is None else {"measured": result.measured, "unit": threshold.unit}
        remedy = "" if result.verdict is Verdict.PASS else f"; {criterion.remedy}"
        reason = f"{result.verdict}: {result.reason}{remedy}"
        figures = {"verdict": str(result.verdict), "threshold": threshold.limit, **measured}
        yield build_check_result(replace(result, reason=reason, figures=figures))
