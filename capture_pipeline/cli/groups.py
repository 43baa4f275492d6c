"""Groups of commands, each imported only when it is called: `capture --help` imports no command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import click

from capture_pipeline.cli.exits import EXIT_INTERRUPTED
from capture_pipeline.collector import import_module
from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.terminal import write_line


class CommandSource(NamedTuple):
    """Place of a command, and its line in the list of commands.

    Attributes:
        module: Module that defines the command.
        name: Name of the command in the module.
        summary: One line for the list of commands, which is shown without an import of the command.
    """

    module: str
    name: str
    summary: str


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - passed on
        sources: Mapping[str, CommandSource],
        moved: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - passed on
    ) -> None:
        """Store the sources.

        Args:
            arguments: Passed on to `click.Group`.
            sources: Source of each command by its name.
            moved: Present command line by the name of a command that an earlier version had.
            options: Passed on to `click.Group`.
        """
        super().__init__(*arguments, **options)
        self.sources = sources
        self._moved = moved or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(self.sources)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._moved:
            ctx.fail(f"there is no command {cmd_name}; use `{self._moved[cmd_name]}`")
        if cmd_name not in self.sources:
            return None
        source = self.sources[cmd_name]
        command: click.Command = getattr(import_module(source.module), source.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sources[name].summary) for name in self.list_commands(ctx)])


class MainGroup(LazyGroup):
    """All commands. An interrupted command ends with 130, because 1 means that a check or a step failed."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:  # noqa: ANN401 - passed on
        with _printable_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _printable_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            write_line("Interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    """Escape what an error quotes from the command line: the name of a file may contain any character."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message(), LONGEST_LINE), error.ctx) from None
