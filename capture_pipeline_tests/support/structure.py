"""Program `make structure`, which measures the structure of the code.

The option `--root FOLDER` measures another checkout.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grimp

from capture_pipeline.terminal import write_line

PACKAGES = ("capture_pipeline", "sandbox_exchange")


def percentile(values: Sequence[int], share: float) -> int:
    """Return the smallest value that is not below `share` of all values."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


def functions(path: Path) -> Iterator[int]:
    """Yield the length of each function in a file, lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def list_unnamed_tuples(source: str) -> list[str]:
    """List the functions with a tuple of several parts in their signature, except compiled ones."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(_is_kernel(decorator) for decorator in node.decorator_list)
        and any(map(_has_unnamed_tuple, _annotations(node)))
    ]


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if each.annotation is not None:
            yield each.annotation
    if node.returns is not None:
        yield node.returns


def _is_kernel(decorator: ast.expr) -> bool:
    return any(name in ast.unparse(decorator) for name in ("njit", "kernel", "_inlined"))


def _has_unnamed_tuple(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return any(
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "tuple"
        and isinstance(node.slice, ast.Tuple)
        and len(node.slice.elts) > 1
        and not any(isinstance(part, ast.Constant) for part in node.slice.elts)
        for node in ast.walk(annotation)
    )


def count_statements(path: Path) -> int:
    """Return the number of statements in a file without docstrings.

    It does not depend on the width of lines.
    """
    return sum(
        isinstance(node, ast.stmt)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def import_circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one circle, an empty list where there is none."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def main() -> None:
    """Print modules by folder, lengths, arrows between packages, and import circles."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="checkout that is measured")
    root: Path = parser.parse_args().root.resolve()
    sys.path.insert(0, str(root))
    packages = [name for name in PACKAGES if (root / name / "__init__.py").is_file()]
    graph = grimp.build_graph(*packages, cache_dir=None)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    files = [path for name in packages for path in (root / name).rglob("*.py") if path.name != "__init__.py"]
    folders = Counter(str(path.parent.relative_to(root)) for path in files)
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
    spans = [length for path in files for length in functions(path)]
    write_line(f"modules: {len(files):,} in {len(folders)} folders; largest folders:")
    for folder, count in folders.most_common(6):
        write_line(f"  {count:3} {folder}")
    write_line(f"folders with more than 12 modules: {sum(count > 12 for count in folders.values())}")
    write_line(
        f"lines of a module: median {statistics.median(lengths):.0f}, 95 % up to {percentile(lengths, 0.95)}"
    )
    write_line(
        f"lines of a function: median {statistics.median(spans):.0f}, 95 % up to {percentile(spans, 0.95)}"
    )
    for name in packages:
        of_package = [
            length for path, length in zip(files, lengths, strict=True) if path.is_relative_to(root / name)
        ]
        statements = sum(map(count_statements, (root / name).rglob("*.py")))
        write_line(f"lines of {name}: {sum(of_package):,}; statements: {statements:,}")
    write_line(f"imports between modules: {sum(map(len, modules.values())):,}")
    by_package: dict[str, set[str]] = {}
    for name, targets in modules.items():
        source = ".".join(name.split(".")[:2])
        by_package.setdefault(source, set()).update(
            package for target in targets if (package := ".".join(target.split(".")[:2])) != source
        )
    write_line(f"arrows between packages: {sum(map(len, by_package.values()))}")
    write_line(f"import circle of modules: {' > '.join(import_circle(modules)) or 'none'}")
    write_line(f"import circle of packages: {' > '.join(import_circle(by_package)) or 'none'}")


if __name__ == "__main__":
    main()
