"""Help texts of all commands: examples that the commands accept, and consistent options."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from capture_pipeline.cli.main import main

CAPTURE = Path(sys.executable).with_name("capture")
OLD = {
    "backfill": "capture klines backfill",
    "topup": "capture klines topup",
    "gaps": "capture klines gaps",
    "coverage": "capture klines coverage",
    "recheck": "capture klines recheck",
    "preflight": "capture session preflight",
    "validate": "capture session validate",
    "diagnose": "capture session diagnose",
    "import": "capture session import",
    "convert": "capture session convert",
    "prove": "capture session prove",
    "replay": "capture session replay",
    "book": "capture session book",
    "times": "capture session times",
}


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return every executable command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(main))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_an_example_with_options_that_exist(words: tuple[str, ...]) -> None:
    command = ALL[words]
    assert command.epilog is not None
    assert command.epilog.startswith("Example: capture ")
    called = shlex.split(command.epilog.removeprefix("Example: capture "))
    assert tuple(called[: len(words)]) == words
    options = {name for option in command.params for name in option.opts}
    assert {word for word in called[len(words) :] if word.startswith("--")} <= options


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_that_mean_the_same_have_the_same_form(words: tuple[str, ...]) -> None:
    """JSON is a flag; an output folder or file is --out; the settings file is --config."""
    for option in ALL[words].params:
        if isinstance(option, click.Option):
            assert not {"--output", "--dir", "--file", "--symbols"} & set(option.opts)
            if "--json" in option.opts:
                assert option.is_flag
            if {"--out", "--config"} & set(option.opts):
                assert isinstance(option.type, click.Path) or words[0] == "sandbox"
            assert option.help


def test_the_page_of_commands_lists_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    rows = {
        f"| `capture {' '.join(words)}` | {command.get_short_help_str(200)} |"
        for words, command in ALL.items()
    }
    assert rows <= set(page.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    environment = {**os.environ, "_CAPTURE_COMPLETE": f"{shell}_source"}
    script = subprocess.run(
        ["capture"], executable=CAPTURE, env=environment, capture_output=True, text=True, check=True
    )
    assert "_CAPTURE_COMPLETE" in script.stdout


@pytest.mark.parametrize(("name", "present"), OLD.items())
def test_a_command_of_an_earlier_version_names_the_present_one(name: str, present: str) -> None:
    result = CliRunner().invoke(main, [name, "--json"])
    assert result.exit_code == 2
    assert f"there is no command {name}; use `{present}`" in result.stderr
