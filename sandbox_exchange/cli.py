"""Command `capture sandbox serve`: run the sandbox exchange in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.parsing import read_yaml
from capture_pipeline.terminal import write_line
from sandbox_exchange.config.models import SandboxConfig, validate_model
from sandbox_exchange.config.profiles import profile_names
from sandbox_exchange.faults.rules import FaultScript
from sandbox_exchange.server.server import Sandbox, serve

_MAX_SYMBOLS_SHOWN = 6
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _SandboxStartError(click.ClickException):
    exit_code = 2


@click.group()
def sandbox() -> None:
    """Run a local exchange for trials, demonstrations and tests."""


@sandbox.command("serve", epilog="Example: capture sandbox serve --profile real-world --port 8650")
@click.option(
    "--port",
    default=8650,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port on 127.0.0.1; 0 selects a free port.",
)
@click.option(
    "--recorded",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the recorded kline files in this folder and below.",
)
@click.option("--replay", type=_FILE, help="Serve the messages of a recorded session (.jsonl.gz) as streams.")
@click.option(
    "--market",
    type=click.Choice([str(market) for market in Market]),
    help="Market of recorded files whose path does not contain it.",
)
@click.option(
    "--profile",
    type=click.Choice(profile_names()),
    help="Predefined settings of the market; --config and other options override them.",
)
@click.option(
    "--config",
    "config_file",
    type=_FILE,
    help="YAML file with the sandbox's settings; other options override it.",
)
@click.option("--faults", "faults_file", type=_FILE, help="YAML or JSON file with a fault script.")
@click.option("--now", help="Sandbox time at the start, ISO format, UTC.")
@click.option("--speed", type=click.FloatRange(min=0), help="Sandbox seconds per real second.")
@click.option("--frozen", is_flag=True, default=None, help="Stop the sandbox clock.")
@click.option("--seed", type=int, help="Seed of the synthetic market; another seed gives another market.")
def serve_command(port: int, config_file: Path | None, faults_file: Path | None, **options: Any) -> None:
    """Serve archive, REST and streams on loopback.

    Ctrl-C ends the server.
    """
    try:
        serve(_read_config(config_file, faults_file, options), port, _print_summary)
    except CaptureError as error:
        raise _SandboxStartError(str(error)) from None


def _read_config(
    config_file: Path | None, faults_file: Path | None, options: dict[str, Any]
) -> SandboxConfig:
    """Read the configuration file and override its settings with the given options."""
    data = read_yaml(config_file) or {} if config_file else {}
    if not isinstance(data, dict):
        raise ConfigError("must contain keys and values", where=str(config_file))
    if faults_file:
        script = read_yaml(faults_file) or []
        data["faults"] = validate_model(
            FaultScript, {"faults": script} if isinstance(script, list) else script, str(faults_file)
        ).faults
    given_options = {name: value for name, value in options.items() if value is not None}
    return validate_model(
        SandboxConfig, {**data, **given_options}, str(config_file) if config_file else "sandbox"
    )


def _describe_origin(config: SandboxConfig) -> str:
    if config.recorded:
        return f"recorded files of {config.recorded}"
    return f"a synthetic market, seed {config.seed}" + (
        f", profile {config.profile}" if config.profile else ""
    )


def _print_summary(served: Sandbox, url: str) -> None:
    write_line(f"The sandbox answers at {url} (Ctrl-C ends it)")
    for market in Market:
        names = [spec.symbol for spec in served.source.symbols(market)]
        hidden_count = len(names) - _MAX_SYMBOLS_SHOWN
        more = f" and {hidden_count} more" if hidden_count > 0 else ""
        if names:
            write_line(f"  {market}: {', '.join(names[:_MAX_SYMBOLS_SHOWN])}{more}")
    now, speed = iso(served.clock.now_us()), served.clock.speed
    if served.config.replay:
        speed = 0 if served.config.frozen else served.config.speed
        write_line(
            f"  from {served.config.replay}; it is {now} until the first subscription, "
            f"then {speed:g} times real speed"
        )
    else:
        write_line(f"  from {_describe_origin(served.config)}; it is {now}, at {speed:g} times real speed")
    if served.config.faults:
        write_line(f"  with {len(served.config.faults)} fault rules")
    if not served.config.recorded:
        write_line(f"  with streams at {url.replace('http', 'ws', 1)}")
    write_line("To use it, set:")
    write_line(f"  CAPTURE_VENUE=sandbox CAPTURE_SANDBOX_URL={url}")
