"""Asset checks of a session, one for each check of `capture session validate`."""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from capture_pipeline.checks.gates import Severity
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import NewestMaterializations
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.golden.validation.checks import BLOCKING, CHECKS, build_thresholds
from capture_pipeline.golden.validation.report import Check, Thresholds, Verdict
from capture_pipeline.golden.validation.validator import validate

ASSET = "golden_samples"
Event = dg.Output[None] | dg.AssetCheckEvaluation


def _severity(name: str) -> str:
    return str(Severity.WARN if name in Thresholds().advisory else Severity.ERROR)


def _specs() -> dict[str, dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature in this version of Dagster; tests cover their use.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return {
            name: dg.AssetCheckSpec(
                name,
                asset=ASSET,
                description=text,
                blocking=name in BLOCKING,
                partitions_def=SESSIONS,
                metadata={"severity": _severity(name)},
            )
            for name, text in CHECKS.items()
        }


SPECS = _specs()


@dg.multi_asset_check(
    name="golden_samples_checks",
    specs=list(SPECS.values()),
    can_subset=True,
    description="Validates a session with the checks of `capture session validate`.",
)
def golden_samples_checks(
    context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[Event]:
    """Validate the recording and yield the evaluation of each selected check."""
    with domain_errors_as_dagster(context.op_execution_context):
        report = validate(
            find_session_folder(deployment, context.partition_key).path,
            build_thresholds(deployment.settings.session_gates),
        )
    newest = NewestMaterializations(context.instance, [context.partition_key])
    wanted = {key.name for key in context.selected_asset_check_keys}
    for check in report.checks:
        if check.name in wanted:
            yield _evaluation(newest, check, context.partition_key)
    for name in wanted:
        yield dg.Output(None, output_name=SPECS[name].get_python_identifier())


def _evaluation(newest: NewestMaterializations, check: Check, session: str) -> dg.AssetCheckEvaluation:
    """Build an evaluation. A skipped check passes with severity WARN and a description "skipped: …"."""
    is_skipped = check.verdict is Verdict.SKIPPED
    reason = f"skipped: {check.reason}" if is_skipped else check.reason
    return outputs.check_evaluation(
        {"verdict": str(check.verdict), "reason": reason, **_figures(check.figures)},
        reason,
        check_name=check.name,
        asset_key=dg.AssetKey(ASSET),
        passed=check.verdict is not Verdict.FAIL,
        target_materialization_data=newest.target(ASSET, session),
        severity=dg.AssetCheckSeverity.ERROR
        if check.decides and not is_skipped
        else dg.AssetCheckSeverity.WARN,
        blocking=check.name in BLOCKING,
        partition=session,
    )


def _figures(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if value is not None}
