"""Asset and check of the verdict on all criteria."""

from dataclasses import replace
from typing import Any

import dagster as dg

from capture_pipeline.checks.feasibility import CRITERIA, GO
from capture_pipeline.checks.model import Severity
from capture_pipeline.defs.feasibility.measurements import GROUP
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_UPSTREAM_IDLE
from capture_pipeline.defs.shared.check_evaluations import build_check_result, build_check_spec
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.evidence import EvidenceStore
from capture_pipeline.feasibility.verdict import GoNoGo, Overall, evaluate_criteria, publish_verdict
from capture_pipeline.feasibility.verdict_page import render_markdown, render_verdict
from capture_pipeline.lake.files import read_model

_WARNED = {Overall.CONDITIONAL, Overall.NOT_JUDGED}
MEASURED = list(dict.fromkeys(criterion.asset for criterion in CRITERIA))
_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("criterion", "string", "Name of the criterion"),
        dg.TableColumn("threshold", "string", "Threshold with its unit"),
        dg.TableColumn("measured", "float", "Latest measured value, in the unit of the threshold"),
        dg.TableColumn("verdict", "string", "PASS, FAIL, or UNKNOWN where nothing was measured"),
        dg.TableColumn("margin", "float", "Ratio of value and threshold: the criterion passes above 1"),
        dg.TableColumn("measured_us", "int", "Time of the measurement, microseconds UTC"),
    ]
)


@dg.asset(
    name=GO.asset,
    group_name=GROUP,
    kinds={"html", "json"},
    deps=[dg.AssetKey(name) for name in MEASURED],
    automation_condition=AFTER_UPSTREAM_IDLE,
    code_version="1",
    description="Compares every criterion with the latest measurement. The verdict is Go, Conditional (with "
    "the mitigations), No-Go, or Not judged if a measurement is missing. Lists the SHA-256 of each "
    "measurement.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def go_no_go(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Compute the verdict and publish it as a page, as text and as JSON."""
    with domain_errors_as_dagster(context.op_execution_context):
        reports = deployment.lake.reports()
        verdict = evaluate_criteria(EvidenceStore(reports))
        text = render_markdown(verdict)
        paths = publish_verdict(verdict, reports, render_verdict(verdict), text)
    files = {**outputs.page(paths["html"], reports), "json": paths["json"]}
    return outputs.materialization(
        {"overall": str(verdict.overall), "verdict": text, **_figures(verdict), **files}
    )


_GO = build_check_spec(GO)


@dg.multi_asset_check(name=_GO.get_python_identifier(), specs=[_GO])
def go(
    context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.AssetCheckResult:
    """Return the last published verdict as a check result."""
    with domain_errors_as_dagster(context.op_execution_context):
        path = deployment.lake.reports() / f"{GO.asset}.json"
        verdict = read_model(path, GoNoGo)
        if verdict is None:
            raise LakeError("there is no verdict", where=str(path), remedy=f"materialize {GO.asset}")
    spec = replace(GO, severity=Severity.WARN) if verdict.overall in _WARNED else GO
    reason = "; ".join([str(verdict.overall), *verdict.reasons])
    figures = {"overall": str(verdict.overall), **_figures(verdict)}
    return build_check_result(spec.pass_if(verdict.overall is Overall.GO, reason, **figures))


def _figures(verdict: GoNoGo) -> dict[str, float]:
    measured = {one.criterion: one.measured for one in verdict.criteria if one.measured is not None}
    return measured | {
        f"margin_{one.criterion}": one.margin for one in verdict.criteria if one.margin is not None
    }
