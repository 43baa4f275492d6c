"""What assets that measure have in common: one at a time, evidence as metadata, criteria and a fall of figures as asset checks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import dagster as dg

from capture_pipeline.checks.gates import Severity
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import BusyError, LakeError
from capture_pipeline.feasibility.criteria import Criterion, Verdict
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.lake.files import file_lock
from capture_pipeline.reporting.markdown import Markdown

GROUP = "feasibility"
REGRESSION = "no_regression"
_WORST_RATIO = 0.7
_PATIENCE_S, _LOOK_S = 3600.0, 0.5
_SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}


@contextmanager
def measuring(workspace: Workspace) -> Iterator[EvidenceStore]:
    """The store of evidence, while no other benchmark of this lake runs: they would measure each other. Waits for the one that does.

    Raises:
        BusyError: One has run for longer than an hour.
    """
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(file_lock(workspace.lake.state("benchmark.lock")))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)
        yield EvidenceStore(workspace.lake.reports())


def described(store: EvidenceStore, evidence: Evidence, text: Markdown, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Collect the values of the materialization.

    Args:
        store: Where it was published.
        evidence: Of an asset.
        text: Its tables.
        left_out: Beginnings of the names of figures that are in the tables and the evidence only.
    """
    figures = {name: value for name, value in evidence.figures.items() if not name.startswith(left_out)}
    return {
        "tables": text,
        **figures,
        "evidence": store.path(evidence.asset),
        "inputs": evidence.inputs,
    }


def checks_of(asset: str, criteria: Mapping[str, Criterion], main_figures: Sequence[str]) -> dg.AssetChecksDefinition:
    """The checks of an asset that publishes evidence.

    Args:
        asset: Its name.
        criteria: Name of a check and the criterion that it tells. One with a mitigation warns, one without is an error.
        main_figures: Figures of which higher is better; a fall of one of them below 0.7 of the median of the runs before warns.
    """
    severities = {name: Severity.WARN if criterion.mitigation else Severity.ERROR for name, criterion in criteria.items()}
    specs = [_spec(asset, name, _sentence(criterion), severities[name]) for name, criterion in criteria.items()]
    fall = f"No main figure is worse than {_WORST_RATIO} of the median of the runs before"
    specs.append(_spec(asset, REGRESSION, fall, Severity.WARN))

    @dg.multi_asset_check(
        name=f"{asset}_checks", specs=specs, description="Compares the latest measurement with its criteria and with earlier runs."
    )
    def checks(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[dg.AssetCheckResult]:
        with domain_errors_as_dagster(context.op_execution_context):
            store = EvidenceStore(workspace.lake.reports())
            evidence = _latest(store, asset)
            results = [_criterion_result(evidence, name, criterion, severities[name]) for name, criterion in criteria.items()]
            results.append(_regression_result(store, evidence, main_figures))
        yield from results

    return checks


def _spec(asset: str, name: str, description: str, severity: Severity) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=description, metadata={"severity": str(severity)})


def _sentence(criterion: Criterion) -> str:
    return f"{criterion.title}: {criterion.bound} {criterion.threshold:,g} {criterion.unit}"


def _latest(store: EvidenceStore, asset: str) -> Evidence:
    found = store.latest(asset)
    if found is None:
        raise LakeError("there is no evidence", where=asset, remedy=f"materialize {asset}")
    return found[0]


def _criterion_result(evidence: Evidence, name: str, criterion: Criterion, severity: Severity) -> dg.AssetCheckResult:
    reading = evidence.reading(criterion)
    verdict = criterion.verdict(reading.measured)
    values = {"measured": reading.measured, "threshold": criterion.threshold, "margin": criterion.margin(reading.measured)}
    return outputs.check_result(
        {key: value for key, value in values.items() if value is not None}
        | {"verdict": str(verdict), "mitigation": criterion.mitigation or "none"},
        f"{verdict}: {reading.note}" if reading.note else str(verdict),
        check_name=name,
        asset_key=evidence.asset,
        passed=verdict is Verdict.PASS,
        severity=_SEVERITIES[severity],
    )


def _regression_result(store: EvidenceStore, evidence: Evidence, main_figures: Sequence[str]) -> dg.AssetCheckResult:
    before = {name: store.before(evidence.asset, name) for name in main_figures if name in evidence.figures}
    ratios = {name: evidence.figures[name] / median for name, median in before.items() if median}
    fallen = {name: ratio for name, ratio in ratios.items() if ratio < _WORST_RATIO}
    told_of = "; ".join(f"{name}: {ratio:.2f} of the median before" for name, ratio in fallen.items())
    return outputs.check_result(
        {"compared": len(ratios), **{f"ratio_{name}": ratio for name, ratio in ratios.items()}},
        told_of or (f"{len(ratios)} figures hold" if ratios else "there is no run before to compare with"),
        check_name=REGRESSION,
        asset_key=evidence.asset,
        passed=not fallen,
        severity=dg.AssetCheckSeverity.WARN,
    )
