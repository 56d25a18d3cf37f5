"""`nexus contract`: what it shows, what it finds, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nexuskit.cli.app import ExitCode, app

CONTRACT = '''
from datetime import timedelta
from nexusrpc import Operation
from nexuskit.contract import DeclaredError, operation, service
from pydantic import BaseModel, Field


class Payment(BaseModel):
    cents: int = Field(gt=0)


class CardDeclined(DeclaredError):
    """The card was refused."""

    reason: str


@service(version="1.0")
class PaymentService:
    """Takes payments.

    In all currencies.
    """

    process: Operation[Payment, dict[str, int]] = operation(
        errors=[CardDeclined], deadline=timedelta(minutes=5), kind="async", tags=["money"]
    )
    """Charges a card."""

    status: Operation[str, list[str]]
'''


@pytest.fixture(autouse=True)
def contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.py").write_text(CONTRACT)
    Path("new.py").write_text(
        CONTRACT.replace("gt=0", "gt=0, le=100").replace("    status:", "    where: Operation[int, int]\n    status:")
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["contract", *arguments])


def test_show() -> None:
    assert run("show", "old.py").output == (
        "PaymentService 1.0\n"
        "  Takes payments.\n"
        "  process  Payment → mapping to integer  async, within 0:05:00, #money\n"
        "    Charges a card.\n"
        "    error CardDeclined(reason)\n"
        "  status  string → list of string\n"
    )


def test_a_document_stands_for_its_contract() -> None:
    Path("old.json").write_text(run("show", "old.py", "--json").stdout)
    assert run("show", "old.json").stdout == run("show", "old.py").stdout
    assert run("check", "old.json", "old.py").stdout == "Nothing breaks.\n"
    assert run("diff", "old.json", "old.py").stdout == "Nothing has changed.\n"


def test_schema() -> None:
    found = json.loads(run("schema", "old.py").stdout)
    assert list(found) == ["PaymentService.process", "PaymentService.status"]
    assert found["PaymentService.process"]["input"]["properties"]["cents"]["exclusiveMinimum"] == 0
    assert list(json.loads(run("schema", "old.py", "--operation", "status").stdout)) == ["PaymentService.status"]
    refused = run("schema", "old.py", "--operation", "nothing")
    assert (refused.exit_code, refused.stderr) == (ExitCode.REFUSED, "nexus: old.py: there is no operation nothing.\n")


def test_check_tells_what_breaks_whom_and_what_to_do() -> None:
    result = run("check", "old.py", "new.py")
    assert result.exit_code == ExitCode.FAILED
    lines = result.stdout.splitlines()
    assert lines[0] == "callers, in-flight  PaymentService.process, input: cents  [input-constraint-tightened]"
    assert lines[1] == "    was without maximum, is maximum 100"
    assert lines[3].startswith("    → Keep the constraint")
    assert lines[-1] == "1 change, of which 1 breaks somebody"


def test_check_looks_at_those_that_are_named() -> None:
    assert run("check", "old.py", "new.py", "--breaks", "handlers").exit_code == ExitCode.OK
    assert run("check", "old.py", "new.py", "--breaks", "handlers", "--breaks", "callers").exit_code == ExitCode.FAILED


def test_check_for_programs() -> None:
    result = run("check", "old.py", "new.py", "--json")
    assert result.exit_code == ExitCode.FAILED
    (change,) = json.loads(result.stdout)["changes"]
    assert (change["code"], change["breaks"]) == ("input-constraint-tightened", ["callers", "in-flight"])
    assert json.loads(run("check", "old.py", "old.py", "--json").stdout) == {"changes": []}


def test_check_for_github() -> None:
    result = run("check", "old.py", "new.py", "--github")
    assert result.exit_code == ExitCode.FAILED
    (line,) = result.stdout.splitlines()
    assert line.startswith(
        "::error file=new.py,line=25,title=input-constraint-tightened%3A breaks callers%2C in-flight::"
        "PaymentService.process, input: cents: was without maximum, is maximum 100."
    )


def test_diff_tells_also_what_breaks_nobody() -> None:
    result = run("diff", "old.py", "new.py")
    assert result.exit_code == ExitCode.OK
    assert "nobody  PaymentService.where  [operation-added]\n    operation where is new\n" in result.stdout
    assert result.stdout.endswith("2 changes, of which 1 breaks somebody\n")


def test_generate_makes_python_of_a_file_and_a_file_of_python() -> None:
    Path("contract.py").write_text(
        CONTRACT.replace("dict[str, int]", "Payment").replace("Operation[str, list[str]]", "Operation[None, None]")
    )
    made = run("generate", "contract.py", "--to", "nexusrpc", "--output", "contract.json")
    assert (made.exit_code, made.output) == (ExitCode.OK, "")
    assert json.loads(Path("contract.json").read_text())["nexusrpc"] == "1.0.0"
    Path("again.py").write_text(run("generate", "contract.json").stdout)
    assert run("diff", "contract.py", "again.py").output == "Nothing has changed.\n"


def test_docs() -> None:
    assert run("docs", "old.py").stdout.startswith("# PaymentService 1.0\n\nTakes payments.\n")
    assert run("docs", "old.py", "--html", "--output", "page.html").output == ""
    assert Path("page.html").read_text().startswith("<!doctype html>")


def test_generate_tells_what_does_not_fit() -> None:
    refused = run("generate", "old.py", "--to", "nexusrpc")
    assert refused.exit_code == ExitCode.REFUSED
    assert refused.stderr.startswith(
        "nexus: old.py: the nexusrpc file form cannot say this:\n  - PaymentService.status, "
    )
    nowhere = run("generate", "old.py", "--output", "no/where.py")
    assert nowhere.stderr.endswith("cannot be written: No such file or directory.\n")


@pytest.mark.parametrize(
    "command", [["show", "nowhere.py"], ["check", "old.py", "nowhere.py"], ["diff", "nowhere.py", "old.py"]]
)
def test_what_is_not_there_is_one_sentence(command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code, result.output) == (ExitCode.REFUSED, "nexus: nowhere.py: there is no file nowhere.py.\n")
