"""Error handling for parsers of untrusted bytes, and the YAML reader of the project.

Messages, answers, archives, recordings and settings can contain any bytes. Parsers raise errors of many types
for bytes that they cannot read. `PARSE_ERRORS` lists these types, `guard_parser` turns them into one error of
the project, and `explain` describes an error in one line. The module opens no socket and does not check the
values that a parser returns.

`MemoryError` is not in the list: it depends on the machine and not only on the bytes. Callers limit the size
before they parse.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import yaml
from isal import isal_zlib

from capture_pipeline.errors import CaptureError, ConfigError, MalformedDataError, PermanentError

_ISAL_ERROR: Any = isal_zlib.error
"""Typed as Any because the type stubs of isal declare this class as an instance."""
PARSE_ERRORS: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    ET.ParseError,
    gzip.BadGzipFile,
    _ISAL_ERROR,
    struct.error,
    yaml.YAMLError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Error types that the standard library, msgspec, pydantic, PyYAML and isal raise for bytes that they cannot
parse."""
MAX_YAML_BYTES: Final = 512 << 10
_MAX_YAML_DEPTH, _MAX_YAML_VALUES = 40, 20_000
_LONGEST_TEXT, _MAX_DIGITS = 200, 18


@contextmanager
def guard_parser(
    where: str,
    what: str = "cannot be read",
    *,
    remedy: str | None = None,
    kind: type[PermanentError] = MalformedDataError,
    also: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Turn errors of a parser into one error of the project; errors of the project are not changed.

    Args:
        where: The file, request or line that is parsed.
        what: The problem if the parser fails; the parser's reason is appended.
        remedy: The action that solves the problem.
        kind: Type of the error.
        also: Further error types of the parser, for instance those of a library that this module does not
            import.

    Raises:
        PermanentError: The parser failed; the error is of type `kind`.
    """
    try:
        yield
    except (*PARSE_ERRORS, *also) as error:
        raise kind(f"{what}: {explain(error)}", where=where, remedy=remedy) from None


def explain(error: BaseException) -> str:
    """Describe an error of a parser in one line."""
    if isinstance(error, CaptureError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    from pydantic import ValidationError  # noqa: PLC0415 - most parsers need no pydantic, whose import takes 80 ms

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        return f"{place}: {message}"[:_LONGEST_TEXT] if place else message[:_LONGEST_TEXT]
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        what = ", ".join(filter(None, (error.context, error.problem)))
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {what}"[
            :_LONGEST_TEXT
        ]
    if isinstance(error, KeyError):
        return f"{error} is missing"[:_LONGEST_TEXT]
    return " ".join(str(error).split())[:_LONGEST_TEXT] or type(error).__name__


def parse_count(text: str) -> int | None:
    """Parse a number of at most 18 decimal digits; return None if the text is anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def read_yaml(path: Path, remedy: str | None = None) -> Any:  # noqa: ANN401 - any YAML value
    """Read a YAML file with the limits of `parse_yaml`.

    Args:
        path: The file.
        remedy: The action for a user whose file cannot be opened.

    Raises:
        ConfigError: The file cannot be opened, is not UTF-8, or is not YAML within the limits.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    _check_length(len(content), str(path))
    with guard_parser(str(path), "is not UTF-8", kind=ConfigError):
        text = content.decode()
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse YAML with limits on size, nesting, and the number of values after aliases are expanded.

    Args:
        text: At most `MAX_YAML_BYTES` characters.
        where: The file or variable, for errors.

    Raises:
        ConfigError: The text is not YAML, exceeds a limit, has a key twice, or has a date or number that does
            not exist.
    """
    _check_length(len(text), where)
    with guard_parser(where, "is not YAML", kind=ConfigError):
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()


def _check_length(length: int, where: str) -> None:
    if length > MAX_YAML_BYTES:
        raise ConfigError(
            f"is longer than {MAX_YAML_BYTES:,} bytes", where=where, remedy="check that it is the right file"
        )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits. The values of an alias count again at each use."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; refuse it if the text is nested too deeply or has too many values."""
        is_alias, before = self.check_event(yaml.AliasEvent), self._values
        self._depth += 1
        if self._depth > _MAX_YAML_DEPTH:
            raise _yaml_error(f"nested deeper than {_MAX_YAML_DEPTH} levels", parent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and is_alias:
            if node not in self._sizes:
                raise _yaml_error("an alias refers to a value that contains it", node)
            self._values += self._sizes[node]
        elif node is not None:
            self._values += 1
            self._sizes[node] = self._values - before
        if self._values > _MAX_YAML_VALUES:
            raise _yaml_error(f"more than {_MAX_YAML_VALUES:,} values", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - PyYAML's own type
        """Compose keys and values; refuse a repeated key."""
        mapping = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _yaml_error(f"the key {key.value[:40]!r} is given twice", key)
                seen.add((key.tag, key.value))
        return mapping

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Build the value of a node; report an impossible value, for instance February 30, with its line."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise _yaml_error(f"a value that does not exist: {explain(error)}", node) from None


def _yaml_error(what: str, at: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401 - an event or a node of PyYAML
    return yaml.MarkedYAMLError(problem=what, problem_mark=getattr(at, "start_mark", None))
