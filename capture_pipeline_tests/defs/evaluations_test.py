"""Materializations to which evaluations of checks refer."""

import dagster as dg
import pytest

from capture_pipeline.defs.shared import check_evaluations
from capture_pipeline.defs.shared.check_evaluations import NewestMaterializations


def test_more_partitions_than_one_query_returns_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition without a materialization has none in the result."""
    monkeypatch.setattr(check_evaluations, "_PER_QUERY", 3)
    keys = [f"{number}" for number in range(7)]
    with dg.instance_for_test() as instance:
        for key in [*keys, *reversed(keys)]:
            instance.report_runless_asset_event(dg.AssetMaterialization("made", partition=key))
        records = instance.fetch_materializations(dg.AssetKey("made"), limit=len(keys)).records
        newest = NewestMaterializations(instance, [*keys, "never"])
        found = {key: newest.target("made", key) for key in keys}
        assert {key: target.storage_id for key, target in found.items() if target} == {
            str(each.partition_key): each.storage_id for each in records
        }
        assert newest.target("made", "never") is None
        assert newest.target("other", keys[0]) is None
        whole = newest.target("made", None)
        assert whole is not None
        assert whole.storage_id == records[0].storage_id
