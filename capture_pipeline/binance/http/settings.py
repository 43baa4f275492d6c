"""Settings of requests to the exchange: time-outs, retries, size limits and the share of the budget."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(ge=0, le=100)]


class Section(BaseModel):
    """Base of the sections of the settings: unknown keys are rejected, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Http(Section):
    """Time-outs, retries and caps of every request."""

    connect_timeout_s: float = Field(10, gt=0, le=120)
    read_timeout_s: float = Field(30, gt=0, le=600, description="Longest silence within an answer.")
    answer_timeout_s: float = Field(
        120, gt=0, le=3600, description="Longest time for a whole answer of REST, listing or checksum."
    )
    least_download_kb_s: float = Field(
        4, ge=0, description="A download that receives less within answer_timeout_s is ended and resumed."
    )
    total_timeout_s: float = Field(
        900, gt=0, le=86_400, description="A failed request is not repeated after this time."
    )
    attempts: int = Field(5, ge=1, le=20, description="Attempts at one request that fails transiently.")
    backoff_initial_s: float = Field(0.5, gt=0, le=60)
    backoff_max_s: float = Field(30, gt=0, le=600)
    parallel_downloads: int = Field(4, ge=1, le=16)
    max_zip_mb: int = Field(256, ge=1, description="A larger zip is rejected during its download.")
    max_csv_mb: int = Field(
        2048, ge=1, description="A zip that inflates to more is rejected during its inflation."
    )


class RateLimits(Section):
    """Share of the exchange's budget that this deployment uses."""

    weight_per_minute: int | None = Field(
        None,
        ge=1,
        description="The exchange's budget per address; without it 6000 for spot and 2400 for USD-M futures.",
    )
    connections_per_5_minutes: int = Field(
        300, ge=1, description="Attempts to open stream connections that the exchange allows per address."
    )
    use_percent: Percent = Field(
        80, description="Requests and connection attempts pause once this share of the budget is used."
    )
    max_wait_s: float = Field(
        300,
        ge=0,
        description="A longer Retry-After or ban ends the step; the step does not wait for its end.",
    )
