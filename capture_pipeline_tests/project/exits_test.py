"""Restriction of all output to a few modules, which make text printable.

No other module may write, log, render or report.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGE, SANDBOX = Path(str(files("capture_pipeline"))), Path(str(files("sandbox_exchange")))
TERMINAL, CONSOLE, PAGES, OUTPUTS = (
    "terminal.py",
    "cli/console.py",
    "reporting/pages.py",
    "defs/shared/outputs.py",
)
JUNIT, RECORDER = "cli/check.py", "recorder/__main__.py"
EXITS: dict[str, set[str]] = {
    # name that a module may use: the modules that may use it
    r"(builtins\.)?print": set(),
    r"click\.(echo|secho|style|echo_via_pager|prompt|confirm|progressbar|edit|utils.*)": set(),
    r"sys\.__?(stdout|stderr)__": set(),
    r"sys\.(stdout|stderr)": {TERMINAL, CONSOLE, "golden/scan/parallel.py"},
    r"logging\.(?!CRITICAL).*": {TERMINAL},
    r"(warnings\.warn.*|traceback\..*|pprint\..*)": {TERMINAL},
    r"argparse\..*": {RECORDER},
    r"rich\.(text|progress|markup|markdown|pretty|logging|traceback)\..*": {CONSOLE},
    r"rich\.console\.(?!Group\b).*": {CONSOLE},
    r"rich\.print.*": set(),
    r"jinja2(\..*)?": {PAGES},
    r"html\.(escape|unescape|entities.*)": {PAGES},
    r"xml\.sax\..*": {"sandbox_exchange/archive/s3_listing.py"},
    r"xml\.etree\.ElementTree\.(SubElement|Element|tostring|ElementTree|dump)\(\)": {JUNIT},
    r"dagster\.MetadataValue(\..*)?": {OUTPUTS},
    r"dagster\.(?!MetadataValue)\w+MetadataValue\(\)": set(),
    r".*\.add_(asset|output)_metadata\(\)": {OUTPUTS},
    r"dagster\.(get_dagster_logger|TableRecord)(\(\))?": {OUTPUTS},
    r"dagster\.(MaterializeResult|AssetMaterialization|AssetObservation|ObserveResult)\(\)": {OUTPUTS},
    r"dagster\.(AssetCheckResult|AssetCheckEvaluation|Failure|SkipReason)\(\)": {OUTPUTS},
    r".*\.log\.(debug|info|warning|error|exception|critical|log)\(\)": {OUTPUTS},
    r"markupsafe\.Markup\(\)": {PAGES},
    r"capture_pipeline\.reporting\.markdown\.Markdown\(\)": set(),
    r"capture_pipeline\.reporting\.pages\.(picture|svg_text)\(\)": {"reporting/charts.py"},
}


def names_of(source: str) -> Iterator[str]:
    """Return the names that a module uses, resolved by its imports; a call ends with `()`."""
    tree = ast.parse(source)
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {
                alias.asname or alias.name.partition(".")[0]: alias.name
                if alias.asname
                else alias.name.partition(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield _dotted(node, imported)
        elif isinstance(node, ast.Call):
            yield f"{_dotted(node.func, imported)}()"


def _dotted(node: ast.expr, imported: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, imported)}.{node.attr}"
    return "?"


def faults_of(module: str, source: str) -> set[str]:
    """Return the output functions that a module uses without permission."""
    found = set(names_of(source))
    return {
        name
        for rule, modules in EXITS.items()
        if module not in modules
        for name in found
        if re.fullmatch(rule, name) and name != "logging"
    }


def modules() -> dict[str, str]:
    """Return the source of the package and of the sandbox by path."""
    product = {
        path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))
    }
    return product | {
        path.relative_to(SANDBOX.parent).as_posix(): path.read_text()
        for path in sorted(SANDBOX.rglob("*.py"))
    }


def test_text_leaves_through_the_listed_modules_only() -> None:
    assert {
        module: faults for module, source in modules().items() if (faults := faults_of(module, source))
    } == {}


def test_each_listed_module_is_still_an_exit() -> None:
    """A module that does not need its entry in the table would hide a later violation."""
    sources = modules()
    for rule, allowed in EXITS.items():
        for module in allowed:
            assert any(re.fullmatch(rule, name) for name in names_of(sources[module])), (rule, module)


@pytest.mark.parametrize(
    "line",
    [
        "print(x)",
        "import click\nclick.echo(x)",
        "from click import echo\necho(x)",
        "import sys\nsys.stderr.write(x)",
        "from sys import stderr as out\nout.write(x)",
        "import sys as system\nsystem.stdout.buffer.write(x)",
        "import logging\nlogging.getLogger(x).info(y)",
        "from logging import getLogger\ngetLogger(x)",
        "from rich.console import Console\nConsole().print(x)",
        "import rich.console as r\nr.Console()",
        "from rich import print\nprint(x)",
        "from rich.text import Text\nText(x)",
        "import jinja2\njinja2.Environment()",
        "from html import escape\nescape(x)",
        "import dagster as dg\ndg.MetadataValue.md(x)",
        "from dagster import MetadataValue as M\nM.md(x)",
        "import dagster as dg\ndg.MarkdownMetadataValue(x)",
        "import dagster as dg\nyield_ = dg.AssetCheckResult(passed=True)",
        "import dagster as dg\nraise dg.Failure(x)",
        "context.log.info(x)",
        "self.context.op.log.error(x)",
        "from markupsafe import Markup\nMarkup(x)",
        "from capture_pipeline.reporting import markdown as md\nmd.Markdown(x)",
        "from capture_pipeline.reporting.markdown import Markdown\nMarkdown(x)",
        "from xml.etree import ElementTree as ET\nET.SubElement(a, b)",
        "import traceback\ntraceback.print_exc()",
        "import warnings\nwarnings.warn(x)",
    ],
)
def test_a_bypass_in_new_code_is_found(line: str) -> None:
    assert faults_of("new.py", line)


def test_no_template_shows_a_value_as_it_is() -> None:
    templates = sorted(PACKAGE.rglob("*.j2"))
    assert templates
    assert [
        path.name for path in templates if re.search(r"\|\s*safe|autoescape|Markup", path.read_text())
    ] == []


def test_why_a_sensor_starts_nothing_is_printable() -> None:
    for module, source in modules().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.keyword) and node.arg == "skip_reason":
                assert isinstance(node.value, ast.Call), module
                assert ast.unparse(node.value.func) == "outputs.skip", module


def test_no_program_ends_with_a_text() -> None:
    """`sys.exit` and `SystemExit` write their argument to standard error."""
    for module, source in modules().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "SystemExit"}:
                assert all(
                    isinstance(given, ast.Call) or isinstance(getattr(given, "value", None), int)
                    for given in node.args
                ), module
