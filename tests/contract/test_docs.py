"""docs/contracts.md: its commands print what it says, and its table is the rules'."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nexuskit.cli.app import app
from nexuskit.contract.rules import rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "contracts.md"
FILE = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGE = re.compile(r"s/([^/]+)/([^/]+)/")


def test_the_commands_print_what_the_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        Path(name).write_text(content, encoding="utf-8")
    Path("contract.json").write_text(run("nexus contract show contract.py --json"), encoding="utf-8")
    for session in SESSION.findall(text):
        told = ""
        for part in session.split("$ ")[1:]:
            command, _, _ = part.partition("\n")
            told += f"$ {command}\n{run(command)}"
        assert told == session


def run(command: str) -> str:
    """What a command prints; of sed, what the document has of it."""
    program, *arguments = shlex.split(command)
    if program == "sed":
        file = Path(arguments[-1])
        changed = file.read_text(encoding="utf-8")
        for old, new in CHANGE.findall(arguments[1]):
            assert old in changed
            changed = changed.replace(old, new)
        file.write_text(changed, encoding="utf-8")
        return ""
    assert program == "nexus"
    return CliRunner().invoke(app, arguments).output


def test_the_table_is_that_of_the_rules() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == rewritten(document), "run: python -m nexuskit.contract.rules docs/contracts.md"
    with pytest.raises(ValueError, match="has no"):
        rewritten("# Contracts\n")
