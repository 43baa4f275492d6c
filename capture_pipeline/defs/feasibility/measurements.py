"""Common part of the benchmark assets: evidence as metadata, and checks of criteria and of regressions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from capture_pipeline.checks.gates import Severity
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import NewestMaterializations
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.runless_events import report_evaluation, report_materialization
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.criteria import Criterion, Verdict
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.lake.paths import Lake
from capture_pipeline.reporting.markdown import stored

GROUP = "feasibility"
REGRESSION = "no_regression"
_WORST_RATIO = 0.7
_SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}


@dataclass(frozen=True)
class MeasuredAsset:
    """An asset that publishes evidence.

    Attributes:
        name: Name of the asset.
        criteria: Criterion by name of its check. The severity is WARN for a criterion with a mitigation,
            otherwise ERROR.
        main_figures: Figures for which higher values are better. A value below 0.7 of the median of earlier
            runs is a regression.
        only_in_text: Prefixes of figures that are in the tables and the evidence but not in the metadata.
    """

    name: str
    criteria: Mapping[str, Criterion]
    main_figures: Sequence[str]
    only_in_text: tuple[str, ...] = ()

    def metadata(self, lake: Lake, evidence: Evidence) -> dict[str, Any]:
        """Return the metadata of a materialization."""
        figures = {
            name: value for name, value in evidence.figures.items() if not name.startswith(self.only_in_text)
        }
        path = EvidenceStore(lake.reports()).path(evidence.asset)
        return {"tables": stored(evidence.text), **figures, "evidence": path, "inputs": evidence.inputs}

    def checks(self) -> dg.AssetChecksDefinition:
        """Return the asset checks: one for each criterion, and `no_regression`."""
        specs = [
            self._spec(name, _describe_criterion(criterion), self._severity(name))
            for name, criterion in self.criteria.items()
        ]
        description = f"No main figure is below {_WORST_RATIO} of the median of earlier runs"
        specs.append(self._spec(REGRESSION, description, Severity.WARN))

        @dg.multi_asset_check(
            name=f"{self.name}_checks",
            specs=specs,
            description="Compares the latest measurement with its criteria and with earlier runs.",
        )
        def checks(
            context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
        ) -> Iterator[dg.AssetCheckResult]:
            with domain_errors_as_dagster(context.op_execution_context):
                store = EvidenceStore(deployment.lake.reports())
                found = store.latest(self.name)
                if found is None:
                    raise LakeError(
                        "there is no evidence", where=self.name, remedy=f"materialize {self.name}"
                    )
                results = list(self._results(store, found[0]))
            yield from results

        return checks

    def report(self, instance: dg.DagsterInstance, lake: Lake, before_us: int) -> bool:
        """Report the latest evidence if no run of Dagster created it, with the evaluations of its checks.

        Args:
            instance: Dagster instance.
            lake: Lake with the evidence.
            before_us: Later evidence is not reported, because a run may still report it; microseconds UTC.

        Returns:
            True if evidence was reported.

        Raises:
            LakeError: The evidence is damaged.
        """
        store = EvidenceStore(lake.reports())
        found = store.latest(self.name)
        known = NewestMaterializations(instance).target(self.name, None)
        if (
            found is None
            or found[0].measured_us > before_us
            or (known is not None and known.timestamp * 1e6 >= found[0].measured_us)
        ):
            return False
        report_materialization(
            instance, outputs.unpartitioned_materialization(self.name, self.metadata(lake, found[0]))
        )
        target = NewestMaterializations(instance).target(self.name, None)
        for result in self._results(store, found[0]):
            report_evaluation(instance, outputs.evaluation_of_result(self.name, result, target))
        return True

    def _severity(self, check: str) -> Severity:
        return Severity.WARN if self.criteria[check].mitigation else Severity.ERROR

    def _spec(self, check: str, description: str, severity: Severity) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            check, asset=self.name, description=description, metadata={"severity": str(severity)}
        )

    def _results(self, store: EvidenceStore, evidence: Evidence) -> Iterator[dg.AssetCheckResult]:
        for name, criterion in self.criteria.items():
            yield _criterion_result(evidence, name, criterion, self._severity(name))
        yield _regression_result(store, evidence, self.main_figures)


def _describe_criterion(criterion: Criterion) -> str:
    return f"{criterion.title}: {criterion.bound} {criterion.threshold:,g} {criterion.unit}"


def _criterion_result(
    evidence: Evidence, name: str, criterion: Criterion, severity: Severity
) -> dg.AssetCheckResult:
    reading = evidence.reading(criterion)
    verdict = criterion.verdict(reading.measured)
    values = {
        "measured": reading.measured,
        "threshold": criterion.threshold,
        "margin": criterion.margin(reading.measured),
    }
    return outputs.check_result(
        {key: value for key, value in values.items() if value is not None}
        | {"verdict": str(verdict), "mitigation": criterion.mitigation or "none"},
        f"{verdict}: {reading.note}" if reading.note else str(verdict),
        check_name=name,
        asset_key=evidence.asset,
        passed=verdict is Verdict.PASS,
        severity=_SEVERITIES[severity],
    )


def _regression_result(
    store: EvidenceStore, evidence: Evidence, main_figures: Sequence[str]
) -> dg.AssetCheckResult:
    before = {name: store.before(evidence.asset, name) for name in main_figures if name in evidence.figures}
    ratios = {name: evidence.figures[name] / median for name, median in before.items() if median}
    worse_ratios = {name: ratio for name, ratio in ratios.items() if ratio < _WORST_RATIO}
    worse = "; ".join(
        f"{name}: {ratio:.2f} of the median of earlier runs" for name, ratio in worse_ratios.items()
    )
    return outputs.check_result(
        {"compared": len(ratios), **{f"ratio_{name}": ratio for name, ratio in ratios.items()}},
        worse
        or (f"{len(ratios)} figures are not worse" if ratios else "there is no earlier run to compare with"),
        check_name=REGRESSION,
        asset_key=evidence.asset,
        passed=not worse_ratios,
        severity=dg.AssetCheckSeverity.WARN,
    )
