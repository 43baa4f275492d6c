"""Words in the names of modules and folders: each is in the glossary or in its list of general terms."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
OURS, GENERAL = TEXT.split("## General terms")


def singular(word: str) -> str:
    """Return a word without the plural s."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


TERMS = {
    singular(word)
    for line in OURS.splitlines()
    if line.startswith("| ")
    for word in re.findall(r"[a-z0-9]+", line.split("|")[1].lower())
} | {singular(word) for word in re.findall(r"[a-z0-9]+", GENERAL.lower())}


def names() -> list[str]:
    """Return the path of each module and folder of the code, without the ending."""
    paths = [
        path
        for package in ("capture_pipeline", "sandbox_exchange")
        for path in (ROOT / package).rglob("*.py")
    ]
    return sorted({str(path.relative_to(ROOT).with_suffix("")) for path in paths})


@pytest.mark.parametrize("name", names())
def test_the_words_of_a_module_are_in_the_glossary(name: str) -> None:
    words = {word for part in Path(name).parts for word in part.strip("_").split("_")}
    unknown = {word for word in words if word and singular(word) not in TERMS}
    assert not unknown, (
        f"{name}: add {', '.join(sorted(unknown))} to docs/glossary.md, or use a term that is there"
    )


def test_each_term_is_explained_once() -> None:
    rows = [
        line.split("|")[1].strip()
        for line in OURS.splitlines()
        if line.startswith("| ") and "---" not in line
    ]
    assert len(rows) == len(set(rows))
