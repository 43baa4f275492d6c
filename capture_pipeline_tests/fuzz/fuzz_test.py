"""A sample of `make fuzz`: each parser of bytes from outside on some damaged inputs, the same in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.errors import MalformedData
from capture_pipeline_tests.fuzz.run import ALL, FuzzError, case_of, main, save, try_case
from capture_pipeline_tests.fuzz.targets import Target


@pytest.mark.parametrize("name", ALL)
def test_damaged_input_gives_a_value_or_an_error_of_the_project(name: str, tmp_path: Path) -> None:
    """Sound input is taken."""
    for seed in ALL[name].seeds:
        assert try_case(name, seed, tmp_path), seed[:80]
    for number in range(ALL[name].cases):
        data = case_of(name, 1, number)
        try:
            try_case(name, data, tmp_path)
        except FuzzError as error:
            raise AssertionError(f"seed 1, case {number}: {error}; the input is in {save(data, name, tmp_path / 'kept')}") from error


def _fail(data: bytes, _: Path) -> None:
    if len(data) > 5:
        raise LookupError(data)
    raise MalformedData("too short")


def _leak(data: bytes, _: Path) -> None:
    raise MalformedData(f"two\nlines {data!r}")


@pytest.mark.parametrize("run", [_fail, _leak])
def test_an_input_at_fault_ends_the_run_and_is_saved(
    run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report names target, seed and case; the saved input is the one at fault."""
    monkeypatch.setitem(ALL, "broken", Target(run, (b"sound input",)))  # type: ignore[arg-type]
    assert main(["--target", "broken", "--minutes", "1", "--seed", "3", "--save", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    (saved,) = tmp_path.iterdir()
    assert "broken, seed 3, case " in told
    assert str(saved) in told
    with pytest.raises(FuzzError):
        try_case("broken", saved.read_bytes(), tmp_path)


def test_a_run_counts_the_inputs_of_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Targets take turns."""
    assert main(["--target", "REST time", "--target", "REST errors", "--minutes", "0.002"]) == 0
    told = capsys.readouterr().out
    assert "REST time" in told
    assert "none at fault" in told
