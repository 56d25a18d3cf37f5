"""The documents say what is true: examples run, links lead somewhere, commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nexuskit
from tests.house.tree import ROOT, files

DOCUMENTS = [path for path in files() if path.suffix == ".md"]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a document: language and content, in order."""
    return BLOCK.findall(text)


def test_the_example_of_the_readme_prints_what_the_readme_says(tmp_path: Path) -> None:
    found = blocks(README)
    first = next(index for index, (language, _) in enumerate(found) if language == "python")
    (tmp_path / "example.py").write_text(found[first][1], encoding="utf-8")
    language, expected = found[first + 1]
    assert language == "text", "the example is followed by what it prints"

    run = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )

    assert (run.returncode, run.stdout) == (0, expected), run.stderr


def test_the_examples_of_the_protocols_page_print_what_it_says(tmp_path: Path) -> None:
    found = blocks((ROOT / "docs" / "protocol.md").read_text(encoding="utf-8"))
    examples = [index for index, (language, _) in enumerate(found) if language == "python"]
    assert examples
    for index in examples:
        program = tmp_path / f"example{index}.py"
        program.write_text(found[index][1], encoding="utf-8")
        language, expected = found[index + 1]
        assert language == "text", "each example is followed by what it prints"
        run = subprocess.run(
            [sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
        )
        assert (run.returncode, run.stdout) == (0, expected), run.stderr


def test_the_readme_opens_with_its_two_commands() -> None:
    opening = README.split("\n## ", 1)[0]
    assert opening.index("make demo") < opening.index("make test")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    faults = []
    for link in LINK.findall(BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            faults.append(link)
    assert not faults


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_make_has_every_target_that_is_named(document: Path) -> None:
    there = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(
        re.findall(r"^(?:    )?make ([a-z]+)(?=$| +#)", text, re.MULTILINE)
    )
    assert named <= there


def test_the_changelog_knows_this_version() -> None:
    headings = [heading.split()[0] for heading in HEADING.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))]
    assert {"Unreleased", nexuskit.__version__} & set(headings)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = HEADING.findall(BLOCK.sub("", document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
