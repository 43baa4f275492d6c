"""The helper itself: what it escapes, what it keeps, and where it cuts."""

from __future__ import annotations

import logging
import sys
import unicodedata

import pytest

from capture_pipeline import markdown as md
from capture_pipeline.pages import svg_text
from capture_pipeline.printable import printable, printable_lines
from capture_pipeline.terminal import logger

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
    assert shown == (r"\<script>x\</script> !\[a\](http://b) \[c\](d) \`e\` \*f\* \_g\_ a\|b \~\~h\~\~ \&lt; \\ \\n# i")
    assert md.text("# a") == r"\# a"
    assert md.text("high_volume") == "high_volume"
    assert md.text(shown) is shown


def test_a_table_of_markdown_has_the_cells_it_was_given() -> None:
    made = md.table(["a|b", "c"], [["x\ny", md.bold("*z*")]], numbers_from=1)
    assert made == "| a\\|b | c |\n|---|---:|\n| x\\\\ny | **\\*z\\*** |"


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
