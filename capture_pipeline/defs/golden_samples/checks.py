"""Asset checks of a session, one for each check of `capture session validate`."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from capture_pipeline.checks.model import CheckResult, Verdict
from capture_pipeline.checks.recordings import RECORDING_CHECKS, SAMPLES, Thresholds
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder
from capture_pipeline.defs.shared.check_evaluations import (
    NewestMaterializations,
    build_check_spec,
    build_evaluation,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.golden.validation.validator import validate

Event = dg.Output[None] | dg.AssetCheckEvaluation
SPECS = {spec.name: build_check_spec(spec, SESSIONS) for spec in RECORDING_CHECKS}


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
            Thresholds.from_settings(deployment.settings.session_gates),
        )
    target = NewestMaterializations(context.instance, [context.partition_key]).target(
        SAMPLES, context.partition_key
    )
    wanted = {key.name for key in context.selected_asset_check_keys}
    for result in report.checks:
        if result.spec.name in wanted:
            yield build_evaluation(_add_metadata(result), target, context.partition_key)
    for name in wanted:
        yield dg.Output(None, output_name=SPECS[name].get_python_identifier())


def _add_metadata(result: CheckResult) -> CheckResult:
    """Add verdict and reason to the figures. The reason of a skipped check begins with "skipped:"."""
    reason = f"skipped: {result.reason}" if result.verdict is Verdict.SKIPPED else result.reason
    figures = {name: value for name, value in result.figures.items() if value is not None}
    return replace(
        result, reason=reason, figures={"verdict": str(result.verdict), "reason": reason, **figures}
    )
