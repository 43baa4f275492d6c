"""`capture config …`: current settings, their JSON schema, and their environment variables."""

from __future__ import annotations

import click
import yaml

from capture_pipeline.cli.console import emit_table
from capture_pipeline.cli.selection import config_option
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.settings.loader import environment_names, json_schema
from capture_pipeline.terminal import write_json, write_lines


@click.group("config")
def config_group() -> None:
    """Show the current settings, their JSON schema, or their environment variables."""


@config_group.command("show", epilog="Example: capture config show --config pipeline.yaml")
@config_option
def show_command(deployment: Deployment) -> None:
    """Show all current settings as YAML."""
    write_lines(yaml.safe_dump(deployment.settings.model_dump(mode="json"), sort_keys=False).rstrip())


@config_group.command("schema", epilog="Example: capture config schema > pipeline.schema.json")
def schema_command() -> None:
    """Show the JSON schema of pipeline.yaml.

    Editors use it to complete and check keys.
    """
    write_json(json_schema().rstrip())


@config_group.command("env", epilog="Example: capture config env")
def env_command() -> None:
    """Show the variables that override settings.

    A variable of the environment overrides the key of pipeline.yaml in the same row.
    """
    emit_table(
        "Environment",
        ("variable", "key"),
        [{"variable": name, "key": ".".join(path)} for name, path in environment_names().items()],
    )
