"""Dependencies between modules: imports in one direction only."""

from pathlib import Path

import grimp
import pytest

from capture_pipeline_tests.support.structure import PACKAGES, import_circle, list_unnamed_tuples


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type annotations count too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    arrows = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert import_circle(arrows) == []


def test_a_circle_is_named() -> None:
    circle = import_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert set(circle) == {"a", "b", "c"}


_LIBRARY_FORMS = {"get_field_value", "_check_keys"}
"""Functions whose signature pydantic-settings or `json` defines."""


def test_tuples_in_signatures_have_names_for_their_parts() -> None:
    """Compiled kernels and functions with the signature of a library are excepted."""
    root = Path(__file__).parents[2]
    found = [
        f"{path.relative_to(root)}: {name}"
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        for name in list_unnamed_tuples(path.read_text(encoding="utf-8"))
        if name not in _LIBRARY_FORMS
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f() -> tuple[int, str]: ...", ["f"]),
        ("async def f(a: list[tuple[int, int]]) -> None: ...", ["f"]),
        ("class A:\n def f(self, *, a: 'tuple[int, int] | None') -> None: ...", ["f"]),
        ("def f(a: tuple[int, ...]) -> Callable[[int], None]: ...", []),
        ("@kernel\ndef f() -> tuple[int, str]: ...", []),
        ("@numba.njit(cache=True)\ndef f() -> tuple[int, str]: ...", []),
    ],
)
def test_a_tuple_without_names_is_found(source: str, names: list[str]) -> None:
    """Kernels are recognised by their decorator."""
    assert list_unnamed_tuples(source) == names
