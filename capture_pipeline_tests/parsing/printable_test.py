"""Characters that `printable` escapes and keeps, and the places where it cuts."""

from __future__ import annotations

import logging
import sys
import unicodedata
from dataclasses import replace
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from capture_pipeline.checks.klines import SCHEMA
from capture_pipeline.checks.model import Severity, Verdict
from capture_pipeline.cli.check import to_junit
from capture_pipeline.errors import CaptureError, ConfigError, MalformedDataError, NetworkError
from capture_pipeline.klines.quality.gate_results import GateResult
from capture_pipeline.printable import LONGEST_LINE, printable, printable_lines
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.charts import Chart, Section, page
from capture_pipeline.reporting.pages import picture, svg_text
from capture_pipeline.sessions.status import Status
from capture_pipeline.terminal import logger, show_traceback, write_json, write_line, write_lines
from capture_pipeline_tests.support.sessions.desk import metrics_text

KEPT = ["币安人生USDT", "Ünïcödé ¡ £ ½", "Ελληνικά", "😀", "a\\b", "", " a  b "]
ESCAPED = {
    "\x1b[31m": r"\x1b[31m",
    "a\r\nb\tc": r"a\r\nb\tc",
    "\x00\x07\x7f": r"\x00\x07\x7f",
    "\x85\x9b31m": r"\x85\x9b31m",
    "\u202e\u2066": r"\u202e\u2066",
    "a\u200b\u200d\ufeff": r"a\u200b\u200d\ufeff",
    "\u2028\u2029": r"\u2028\u2029",
    "\ud800": r"\ud800",
    "币安\x1b人生": r"币安\x1b人生",
    "\u3164\u2800": r"\u3164\u2800",
    "\U000e0041\xad": r"\U000e0041\xad",
}


@pytest.mark.parametrize("text", KEPT)
def test_letters_of_any_script_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(("text", "shown"), ESCAPED.items(), ids=map(ascii, ESCAPED))
def test_what_a_terminal_obeys_or_hides_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_character_of_unicode_passes_that_controls_or_hides() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            assert printable(letter).isascii(), hex(code)


@pytest.mark.parametrize("text", ["a" * 10_000, "\x1b" * 500, "币" * 501, "a" * 495 + "\u202e", "\x1b"])
@pytest.mark.parametrize("most", [1, 30, 500])
def test_a_result_is_as_long_as_allowed_and_its_own_result(text: str, most: int) -> None:
    shown = printable(text, most)
    assert len(shown) <= most
    assert printable(shown, most) == shown


def test_a_cut_text_says_so_and_how_long_it_was() -> None:
    assert printable("b" * 10_000, 30) == "b" * 9 + "… (10,000 characters)"
    assert printable("b" * 9 + "\x1b" * 9_991, 30) == "b" * 9 + "… (10,000 characters)"
    assert printable("b" * 500) == "b" * 500


def test_lines_stay_lines_and_nothing_else_does() -> None:
    assert printable_lines("a\x1b\n\rb") == "a\\x1b\n\\rb"


MARKDOWN = "<script>x</script> ![a](http://b) [c](d) `e` *f* _g_ a|b ~~h~~ &lt; \\ \n# i"


def test_markdown_of_a_text_is_that_text() -> None:
    shown = md.text(MARKDOWN)
    assert shown == (
        r"\<script>x\</script> !\[a\](http://b) \[c\](d) \`e\` \*f\* \_g\_ a\|b \~\~h\~\~ \&lt; \\ \\n# i"
    )
    assert md.text("# a") == r"\# a"
    assert md.text("high_volume") == "high_volume"
    assert md.text(shown) is shown


def test_a_table_of_markdown_has_the_cells_it_was_given() -> None:
    table = md.table(["a|b", "c"], [["x\ny", md.bold("*z*")]], numbers_from=1)
    assert table == "| a\\|b | c |\n|---|---:|\n| x\\\\ny | **\\*z\\*** |"


def test_code_of_markdown_ends_where_it_should() -> None:
    assert md.code("a`b``c") == "``` a`b``c ```"
    assert md.code("plain") == "`plain`"


def test_a_picture_is_not_an_address() -> None:
    with pytest.raises(ValueError, match="base64"):
        md.image("a", "http://evil/x.png")


def test_svg_of_a_text_is_that_text() -> None:
    assert svg_text('<a href="x">\x1b') == "&lt;a href=&quot;x&quot;&gt;\\x1b"


def test_a_record_of_a_logger_is_one_printable_line(caplog: pytest.LogCaptureFixture) -> None:
    logger("capture_pipeline.a_test").warning("said %s", "\x1b[31m\n")
    assert caplog.messages == ["said \\x1b[31m\\n"]


def test_a_record_of_a_library_is_printable_on_standard_error() -> None:
    handler = logging.lastResort
    assert handler is not None
    assert handler.format(logging.makeLogRecord({"msg": "a\x1b\nb\x9b"})) == "a\\x1b\nb\\x9b"


def test_a_line_of_standard_output_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("a\x1b\nb")
    write_line("c\x9b", err=True)
    write_lines("d\ne\r")
    write_json('"\x7f"')
    shown = capsys.readouterr()
    assert shown.out == 'a\\x1b\\nb\nd\ne\\r\n"\\u007f"\n'
    assert shown.err == "c\\x9b\n"
    write_line("x" * 10_000)
    assert len(capsys.readouterr().out) == LONGEST_LINE + 1


def test_a_traceback_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    show_traceback(ValueError, ValueError("\x1b[31m"), None)
    assert capsys.readouterr().err.endswith("ValueError: \\x1b[31m\n")


@pytest.mark.parametrize("kind", [ConfigError, MalformedDataError, NetworkError])
def test_an_error_is_one_printable_line_of_bounded_length(kind: type[CaptureError]) -> None:
    error = kind("a\x1b\n" + "x" * 9000, where="b\u202e" + "y" * 9000, remedy="c\r" + "z" * 9000)
    for text in (str(error), error.what, error.where or "", error.remedy or ""):
        assert text.isprintable()
    assert len(str(error)) < 2100
    assert (error.what[:7], (error.where or "")[:7], (error.remedy or "")[:3]) == (
        "a\\x1b\\n",
        "b\\u202e",
        "c\\r",
    )


def test_texts_of_a_status_are_printable_whoever_wrote_it() -> None:
    wrong = "a\x9b" + "x" * 9000
    status = Status(session="s", state="recording", pid=1, updated_ns=0, started_us=0, ends_us=1,
        last_error=wrong, trouble=wrong,
                    altered=[wrong])  # fmt: skip
    for text in (status.last_error, status.trouble, *status.altered):
        assert text.startswith("a\\x9b")
        assert len(text) == 500
    status = status.model_copy(update={"last_error": wrong, "session": 's"\n\\'})
    assert all(line.isprintable() for line in metrics_text(status).split("\n"))
    assert 'session="s\\"\\\\n\\\\"' in metrics_text(status)


def test_a_junit_file_of_hostile_findings_is_xml() -> None:
    failing = pl.DataFrame({"a\x1b": ["b\x00\u202e"]})
    found = GateResult(
        replace(SCHEMA, severity=Severity.ERROR),
        Verdict.FAIL,
        symbol="S\x1b",
        reason="c\x1b" + "x" * 9000,
        failing=failing,
    )
    warned = replace(found, spec=replace(SCHEMA, severity=Severity.WARN))
    root = ET.fromstring(to_junit([found, warned]))
    texts = [text for each in root.iter() for text in (*each.attrib.values(), each.text or "")]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    assert max(map(len, texts)) <= 2000


def test_a_page_shows_text_as_text() -> None:
    """Templates escape every text; only pictures are exempt."""
    section = Section(
        "<b>\x1b",
        lines=["<i>\u202e"],
        head=["x"],
        rows=[["{{ 1 }}"]],
        plots=[Chart("p", picture(["<svg>", svg_text("<x>"), "</svg>"]))],
    )
    html = page("t\x9b", [section])
    assert "&lt;b&gt;\\x1b" in html
    assert "&lt;i&gt;\\u202e" in html
    assert "<title>t\\x9b</title>" in html
    assert "<svg>&lt;x&gt;</svg>" in html
    assert "{{ 1 }}" in html
