"""Common part of the benchmark assets: evidence as metadata, and checks of criteria and of regressions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from capture_pipeline.checks.feasibility import REGRESSIONS, WORST_RATIO, Criterion, list_criteria
from capture_pipeline.checks.model import CheckResult, CheckSpec
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import (
    NewestMaterializations,
    build_check_result,
    build_check_spec,
    build_evaluation,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.runless_events import report_evaluation, report_materialization
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.lake.paths import Lake
from capture_pipeline.reporting.markdown import stored

GROUP = "feasibility"


@dataclass(frozen=True)
class MeasuredAsset:
    """An asset that publishes evidence.

    Attributes:
        name: Name of the asset.
        main_figures: Figures for which higher values are better. A value below 0.7 of the median of earlier
            runs is a regression.
        only_in_text: Prefixes of figures that are in the tables and the evidence but not in the metadata.
    """

    name: str
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
        specs = [build_check_spec(spec) for spec in (*list_criteria(self.name), self._regression)]

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
                results = [build_check_result(each) for each in self._results(store, found.evidence)]
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
            or found.evidence.measured_us > before_us
            or (known is not None and known.timestamp * 1e6 >= found.evidence.measured_us)
        ):
            return False
        report_materialization(
            instance, outputs.unpartitioned_materialization(self.name, self.metadata(lake, found.evidence))
        )
        target = NewestMaterializations(instance).target(self.name, None)
        for result in self._results(store, found.evidence):
            report_evaluation(instance, build_evaluation(result, target))
        return True

    @property
    def _regression(self) -> CheckSpec:
        return next(spec for spec in REGRESSIONS if spec.asset == self.name)

    def _results(self, store: EvidenceStore, evidence: Evidence) -> Iterator[CheckResult]:
        for criterion in list_criteria(self.name):
            yield _judge_criterion(evidence, criterion)
        yield _judge_regression(self._regression, store, evidence, self.main_figures)


def _judge_criterion(evidence: Evidence, criterion: Criterion) -> CheckResult:
    result = evidence.judge(criterion)
    figures = {
        "measured": result.measured,
        "threshold": criterion.threshold.limit,
        "margin": criterion.threshold.margin(result.measured),
        "verdict": str(result.verdict),
        "mitigation": criterion.remedy or "none",
    }
    return replace(
        result,
        reason=f"{result.verdict}: {result.reason}" if result.reason else str(result.verdict),
        figures={name: value for name, value in figures.items() if value is not None},
    )


def _judge_regression(
    spec: CheckSpec, store: EvidenceStore, evidence: Evidence, main_figures: Sequence[str]
) -> CheckResult:
    before = {name: store.before(evidence.asset, name) for name in main_figures if name in evidence.figures}
    ratios = {name: evidence.figures[name] / median for name, median in before.items() if median}
    worse = "; ".join(
        f"{name}: {ratio:.2f} of the median of earlier runs"
        for name, ratio in ratios.items()
        if ratio < WORST_RATIO
    )
    no_worse = f"{len(ratios)} figures are not worse" if ratios else "there is no earlier run to compare with"
    return spec.pass_if(
        not worse,
        worse or no_worse,
        compared=len(ratios),
        **{f"ratio_{name}": ratio for name, ratio in ratios.items()},
    )
