"""Factories of Dagster's results, evaluations, failures and log lines, which make all texts printable.

All text of this project that reaches Dagster's event log and pages is created here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import dagster as dg

from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.reporting.markdown import Markdown, text
from capture_pipeline.reporting.pages import REPORTS

LONGEST_TEXT = 2000
"""Maximum number of characters of a metadata value, and of a description."""


def metadata(values: Mapping[str, object]) -> dict[str, Any]:
    """Turn values into Dagster's metadata.

    Args:
        values: A `Markdown` is shown as Markdown, a path as a path, a mapping or a list as JSON, and a string
            as one printable line of plain text.
    """
    return {name: _convert_value(value) for name, value in values.items()}


def _convert_value(value: object) -> object:
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
    """Return metadata with the path of a page and its link on the webserver of this project.

    Args:
        path: Path of the page.
        reports: Folder of reports, which contains the page.
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
        rows: Cells by name of the column.
        schema: Columns of the table.
    """
    return dg.MetadataValue.table(
        [dg.TableRecord({name: cell(value) for name, value in row.items()}) for row in rows], schema
    )


def materialization(
    values: Mapping[str, object] | None = None, *, asset: str | None = None
) -> dg.MaterializeResult[Any]:
    """Return the result that the function of an asset yields.

    Args:
        values: Values for `metadata`.
        asset: Key of the asset; needed if the function builds several assets.
    """
    return dg.MaterializeResult(asset_key=asset, metadata=metadata(values or {}))


def partition_materialization(
    asset: str, partition: str, values: Mapping[str, object]
) -> dg.AssetMaterialization:
    """Return the materialization event of a partition, with the tags that Dagster sets on such events."""
    dimensions = partition.keys_by_dimension if isinstance(partition, dg.MultiPartitionKey) else {}
    tags = {f"dagster/partition/{name}": value for name, value in dimensions.items()}
    return dg.AssetMaterialization(asset, partition=partition, metadata=metadata(values), tags=tags)


def unpartitioned_materialization(asset: str, values: Mapping[str, object]) -> dg.AssetMaterialization:
    """Return the materialization event of an unpartitioned asset."""
    return dg.AssetMaterialization(asset, metadata=metadata(values))


def add_metadata(
    context: dg.AssetExecutionContext, values: Mapping[str, object], asset: str, partition: str
) -> None:
    """Add metadata to the materialization of a partition by the running step."""
    context.add_asset_metadata(metadata(values), asset_key=asset, partition_key=partition)


def observation(asset: str, partition: str, values: Mapping[str, object]) -> dg.AssetObservation:
    """Return an observation event of a partition."""
    return dg.AssetObservation(asset, partition=partition, metadata=metadata(values))


def check_evaluation(
    values: Mapping[str, object],
    description: str | None,
    **fields: Any,  # noqa: ANN401
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check for a partition.

    Args:
        values: Values for `metadata`.
        description: The finding; None if there is none. Dagster shows the description of the check, too.
        fields: Further arguments of `AssetCheckEvaluation`.
    """
    return dg.AssetCheckEvaluation(
        metadata=metadata(values),
        description=_escape_markdown(description) if description else None,
        **fields,
    )


def check_result(
    values: Mapping[str, object],
    description: str,
    **fields: Any,  # noqa: ANN401
) -> dg.AssetCheckResult:
    """Return the result of a check of a whole asset; the arguments are those of `check_evaluation`."""
    return dg.AssetCheckResult(metadata=metadata(values), description=_escape_markdown(description), **fields)


def _escape_markdown(description: str) -> str:
    # Dagster's pages show the description of a check as Markdown.
    return str(text(description, LONGEST_TEXT))


def failure(description: str, values: Mapping[str, object] | None = None) -> dg.Failure:
    """Return a failure of a step that Dagster does not retry."""
    return dg.Failure(
        printable(description, LONGEST_LINE), metadata=metadata(values or {}), allow_retries=False
    )


def skip(reason: str) -> dg.SkipReason:
    """Return the reason why a sensor or a schedule starts no run."""
    return dg.SkipReason(printable(reason, LONGEST_TEXT))


class _Context(Protocol):
    @property
    def log(self) -> Any: ...  # noqa: ANN401 - Dagster's log manager


def log_info(context: _Context, text: str) -> None:
    """Log a line at level INFO."""
    context.log.info(printable(text, LONGEST_LINE))


def log_warning(context: _Context, text: str) -> None:
    """Log a line at level WARNING."""
    context.log.warning(printable(text, LONGEST_LINE))
