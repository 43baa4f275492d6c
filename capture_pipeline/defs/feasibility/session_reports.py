"""Common part of the reports on a session: digests of the input, publication, and checks of criteria."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from capture_pipeline.defs.golden_samples.sessions import SESSIONS
from capture_pipeline.defs.shared import outputs
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.criteria import Criterion, Verdict
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


def build_check_spec(asset: str, criterion: Criterion) -> dg.AssetCheckSpec:
    """Build the spec of the asset check of a criterion."""
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature in this version of Dagster; tests cover their use.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            criterion.name,
            asset=asset,
            description=f"{criterion.title}: {criterion.bound} {criterion.threshold:g} {criterion.unit}; "
            f"otherwise {criterion.mitigation}",
            partitions_def=SESSIONS,
            metadata={"severity": "WARN"},
        )


def check_results(found: Evidence, criteria: Sequence[Criterion]) -> Iterator[dg.AssetCheckResult]:
    """Yield a check result for each criterion.

    A criterion without a measurement fails. The severity is always WARN, because each of these criteria has a
    mitigation.
    """
    for criterion in criteria:
        reading = found.reading(criterion)
        verdict = criterion.verdict(reading.measured)
        measured: dict[str, Any] = (
            {} if reading.measured is None else {"measured": reading.measured, "unit": criterion.unit}
        )
        yield outputs.check_result(
            {"verdict": str(verdict), "threshold": criterion.threshold, **measured},
            f"{verdict}: {reading.note}" + ("" if verdict is Verdict.PASS else f"; {criterion.mitigation}"),
            check_name=criterion.name,
            asset_key=found.asset,
            passed=verdict is Verdict.PASS,
            severity=dg.AssetCheckSeverity.WARN,
        )
