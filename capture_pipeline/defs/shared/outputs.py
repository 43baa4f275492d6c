"""Results, checks, failures and log lines of Dagster: the only way by which text of this project reaches its event log and pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.reporting.markdown import Markdown, text
from capture_pipeline.reporting.pages import REPORTS

LONGEST_TEXT = 2000
"""Characters of a value of metadata, and of a description."""


def metadata(values: Mapping[str, object]) -> dict[str, Any]:
    """Turn values into Dagster's metadata, in which a text is never taken for Markdown.

    Args:
        values: A `Markdown` is shown as such, a path as a path, a mapping or a list as JSON, a text as one printable line.
    """
    return {name: _value(value) for name, value in values.items()}


def _value(value: object) -> object:
    match value:
        case Markdown():
            return dg.MetadataValue.md(str(value))
        case str():
            return dg.MetadataValue.text(printable(value, LONGEST_TEXT))
        case Path():
            return dg.MetadataValue.path(printable(value, LONGEST_LINE))
        case dict() | list():
            return dg.MetadataValue.json(value)
    return value


def page(path: Path, reports: Path) -> dict[str, object]:
    """Values that show where a page lies, with a link that the webserver of this project answers.

    Args:
        path: Of the page.
        reports: Folder of reports, which it lies below.
    """
    return {
        "page": path,
        "open": dg.MetadataValue.url(f"{REPORTS}/{quote(path.relative_to(reports).as_posix())}"),
    }


def cell(value: object) -> str | int | float | bool:
    """Turn a value into a cell of a table."""
    return value if isinstance(value, int | float | bool) else printable(value, 300)


def table(rows: list[Mapping[str, object]], schema: dg.TableSchema) -> dg.TableMetadataValue:
    """Build a table for metadata.

    Args:
        rows: Cells by column.
        schema: Its columns.
    """
    return dg.MetadataValue.table(
        [dg.TableRecord({name: cell(value) for name, value in row.items()}) for row in rows], schema
    )


def materialization(
    values: Mapping[str, object] | None = None, *, asset: str | None = None
) -> dg.MaterializeResult[Any]:
    """Return what an asset's function yields.

    Args:
        values: Metadata, see `metadata`.
        asset: Its key, where a function makes several.
    """
    return dg.MaterializeResult(asset_key=asset, metadata=metadata(values or {}))


def partition_materialization(
    asset: str, partition: str, values: Mapping[str, object]
) -> dg.AssetMaterialization:
    """Return the event of one partition, with the tags that Dagster itself gives it."""
    dimensions = partition.keys_by_dimension if isinstance(partition, dg.MultiPartitionKey) else {}
    tags = {f"dagster/partition/{name}": value for name, value in dimensions.items()}
    return dg.AssetMaterialization(asset, partition=partition, metadata=metadata(values), tags=tags)


def whole_materialization(asset: str, values: Mapping[str, object]) -> dg.AssetMaterialization:
    """Return the event of an asset without partitions."""
    return dg.AssetMaterialization(asset, metadata=metadata(values))


def add_metadata(
    context: dg.AssetExecutionContext, values: Mapping[str, object], asset: str, partition: str
) -> None:
    """Add to the materialization of one partition that the running step makes."""
    context.add_asset_metadata(metadata(values), asset_key=asset, partition_key=partition)


def observation(asset: str, partition: str, values: Mapping[str, object]) -> dg.AssetObservation:
    """Return an observation of one partition."""
    return dg.AssetObservation(asset, partition=partition, metadata=metadata(values))


def check_evaluation(
    values: Mapping[str, object],
    description: str | None,
    **fields: Any,  # noqa: ANN401
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check, for one partition.

    Args:
        values: Metadata, see `metadata`.
        description: What was found; None adds nothing to the description of the check, which Dagster shows too.
        fields: Others of `AssetCheckEvaluation`.
    """
    return dg.AssetCheckEvaluation(
        metadata=metadata(values), description=_described(description) if description else None, **fields
    )


def check_result(values: Mapping[str, object], description: str, **fields: Any) -> dg.AssetCheckResult:  # noqa: ANN401 - likewise
    """Return the result of a check of a whole asset; see `check_evaluation`."""
    return dg.AssetCheckResult(metadata=metadata(values), description=_described(description), **fields)


def evaluation_of_result(
    asset: str,
    result: dg.AssetCheckResult,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check of a whole asset, from the result that a run of the check would yield.

    Args:
        asset: Key of the asset.
        result: Result with the name of the check.
        target: Materialization that was judged.
    """
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=str(result.check_name),
        passed=bool(result.passed),
        metadata=result.metadata,
        target_materialization_data=target,
        severity=result.severity,
        description=result.description,
        blocking=False,
    )


def _described(description: str) -> str:
    # Dagster's pages show the description of a check as Markdown.
    return str(text(description, LONGEST_TEXT))


def failure(description: str, values: Mapping[str, object] | None = None) -> dg.Failure:
    """Return the failure of a step that is not to be tried again."""
    return dg.Failure(
        printable(description, LONGEST_LINE), metadata=metadata(values or {}), allow_retries=False
    )


def skip(reason: str) -> dg.SkipReason:
    """Return why a sensor or a schedule starts nothing."""
    return dg.SkipReason(printable(reason, LONGEST_TEXT))


class _Context(Protocol):
    @property
    def log(self) -> Any: ...  # noqa: ANN401 - Dagster's log manager


def log_info(context: _Context, text: str) -> None:
    """Log what happened."""
    context.log.info(printable(text, LONGEST_LINE))


def log_warning(context: _Context, text: str) -> None:
    """Log what a person should look at."""
    context.log.warning(printable(text, LONGEST_LINE))
