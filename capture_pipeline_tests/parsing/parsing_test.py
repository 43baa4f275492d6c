"""Error handling of parsers, and the YAML reader."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
import yaml
from isal import isal_zlib
from pydantic import BaseModel

import capture_pipeline
from capture_pipeline.errors import CaptureError, ConfigError, LakeError, MalformedDataError
from capture_pipeline.parsing import MAX_YAML_BYTES, explain, guard_parser, parse_count, parse_yaml, read_yaml

DEEP = b"[" * 100_000 + b"]" * 100_000


class Model(BaseModel):
    count: int


@pytest.mark.parametrize(
    ("parse", "reason"),
    [
        (lambda: json.loads(DEEP), "it is nested too deeply"),
        (lambda: msgspec.json.decode(DEEP), "it is nested too deeply"),
        (lambda: json.loads(b"{"), "Expecting"),
        (lambda: msgspec.json.decode(b"{"), "truncated"),
        (lambda: json.loads(b"{}")["a"], "'a' is missing"),
        (lambda: json.loads(b"[]")["a"], "list indices"),
        (lambda: json.loads(b"[1]")[0].x, "has no attribute"),
        (lambda: int("9" * 5000), "Exceeds the limit"),
        (lambda: int(float("inf")), "infinity"),
        (b"\xff".decode, "invalid start byte"),
        (lambda: zlib.decompress(b"x"), "incomplete"),
        (lambda: isal_zlib.decompress(b"x" * 20), ""),
        (lambda: zipfile.ZipFile(BytesIO(b"PK")), "not a zip"),
        (lambda: ET.fromstring("<a>"), "no element"),
        (lambda: yaml.safe_load("a: b: c"), "line 1, column 5: mapping values"),
        (lambda: Model.model_validate_json('{"count":"x"}'), "count: Input should be"),
    ],
)
def test_an_error_of_a_parser_becomes_one_line_of_the_project(
    parse: Callable[[], object], reason: str
) -> None:
    with (
        pytest.raises(LakeError) as caught,
        guard_parser("a.json", "is damaged", remedy="move it aside", kind=LakeError),
    ):
        parse()
    text = str(caught.value)
    assert text.startswith("a.json: is damaged: ")
    assert reason in text
    assert "\n" not in text
    assert caught.value.remedy == "move it aside"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "error", [MalformedDataError("as it is"), MemoryError(), KeyboardInterrupt(), OSError(5, "x")]
)
def test_other_errors_pass(error: BaseException) -> None:
    """Errors of the project, the machine and the user are not changed."""
    with pytest.raises(type(error)) as caught, guard_parser("a.json"):
        raise error
    assert caught.value is error


def test_a_long_reason_is_cut() -> None:
    assert len(explain(ValueError("x" * 10_000))) <= 200
    assert explain(ValueError("two\n  lines")) == "two lines"


def test_only_one_module_decides_what_a_parser_may_raise() -> None:
    """Another module with its own list of parser errors would miss some of them."""
    root = Path(capture_pipeline.__file__).parent
    naming = {path.name for path in root.rglob("*.py") if "RecursionError" in path.read_text()}
    assert naming == {"parsing.py", "messages.py"}  # one decides, one documents


@pytest.mark.parametrize(
    ("text", "count"),
    [("120", 120), ("0", 0), ("\u00b2", None), ("\u0661", None), ("9" * 19, None), ("", None), ("-1", None)],
)
def test_a_count_has_ascii_digits(text: str, count: int | None) -> None:
    """Python's `isdigit` accepts superscripts, which `int` refuses."""
    assert parse_count(text) == count


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{chr(98 + each)}: &{chr(98 + each)} [{', '.join([f'*{chr(97 + each)}'] * 9)}]" for each in range(8)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 900, "line 1, column 40: nested deeper than 40 levels"),
        ("[" * 100_000, "nested deeper than 40 levels"),
        ("- " * 100, "nested deeper than 40 levels"),
        (LAUGHS, "more than 20,000 values"),
        ("- a\n" * 20_001, "more than 20,000 values"),
        ("&a [*a]", "an alias refers to a value that contains it"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is given twice"),
        ("x: 2026-99-99", "line 1, column 4: a value that does not exist: month must be in 1..12"),
        ("a: !!int ''", "a value that does not exist"),
        ("a: !!timestamp x", "a value that does not exist"),
        (f"a: {'9' * 5000}", "a value that does not exist"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: \x00", "unacceptable character"),
        ("x" * (MAX_YAML_BYTES + 1), "is longer than 524,288 bytes"),
    ],
    ids=lambda text: text[:20].replace("\n", " "),
)
def test_yaml_beyond_its_limits_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "p.yaml")
    assert str(caught.value).startswith("p.yaml: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_may_use_anchors_and_merge_keys() -> None:
    assert parse_yaml("a: &x {b: 1}\nc:\n  <<: *x\n  b: 2\nd: {<<: *x}", "p.yaml") == {
        "a": {"b": 1},
        "c": {"b": 2},
        "d": {"b": 1},
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: \xff", "is not UTF-8"),
        (b"x" * (MAX_YAML_BYTES + 1), "is longer than"),
        ("é".encode() * MAX_YAML_BYTES, "is longer than"),
    ],
    ids=["latin", "long", "long in characters of two bytes"],
)
def test_a_yaml_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=reason) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))


def test_a_yaml_file_that_is_not_there_has_a_remedy(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            read_yaml(path, "set the name")
        assert caught.value.remedy == "set the name"
