"""Dependencies between modules: imports in one direction only."""

import grimp

from capture_pipeline_tests.support.structure import PACKAGES, import_circle


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type annotations count too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    arrows = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert import_circle(arrows) == []


def test_a_circle_is_named() -> None:
    circle = import_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert set(circle) == {"a", "b", "c"}
