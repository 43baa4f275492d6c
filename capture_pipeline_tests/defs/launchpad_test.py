"""Configuration that a user writes into a launchpad."""

from __future__ import annotations

import dagster as dg
import pytest
from pydantic import ValidationError

from capture_pipeline.defs.feasibility.decimals import DecimalConfig
from capture_pipeline.defs.feasibility.io import IoConfig
from capture_pipeline.defs.feasibility.replay import ReplayConfig

HUGE = 10**12
NUMBERS = [
    (model, name)
    for model in (DecimalConfig, IoConfig, ReplayConfig)
    for name, field in model.model_fields.items()
    if field.annotation in {int, float}
]


@pytest.mark.parametrize(("model", "name"), NUMBERS)
@pytest.mark.parametrize("value", [-1, HUGE**2])
def test_every_number_has_bounds(model: type[dg.Config], name: str, value: int) -> None:
    """A typing error is refused instead of using all memory."""
    with pytest.raises(ValidationError, match=name):
        model(**{name: value})


@pytest.mark.parametrize("rows", [[], [0], [-1], [HUGE], [10] * 11])
def test_sizes_of_tables_have_bounds(rows: list[int]) -> None:
    """Both each size and the number of sizes have limits."""
    with pytest.raises(ValidationError, match="rows"):
        IoConfig(rows=rows)


def test_defaults_are_within_the_bounds() -> None:
    """The assets can be materialized without a configuration."""
    for model in (DecimalConfig, IoConfig, ReplayConfig):
        assert model.model_validate(model().model_dump()) == model()
