"""The command line as a whole: help, version, usage, and how quickly it is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nexuskit
import nexuskit.demo.run
from nexuskit.backend import StartError
from nexuskit.cli.app import ExitCode, app
from nexuskit.cli.reference import reference, rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nexuskit {nexuskit.__version__}\n")


@pytest.mark.parametrize("command", [[], ["demo"], ["serve"]])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(command: list[str], flag: str) -> None:
    result = CliRunner().invoke(app, [*command, flag])
    assert result.exit_code == 0
    assert "Usage: nexus" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["serve", "--bogus"], "No such option: --bogus"),
        (["serve", "--port", "70000"], "'--port'"),
        (["serve", "--port", "http"], "'--port'"),
        (["serve", "--log-level", "loud"], "'--log-level'"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == ExitCode.REFUSED
    assert told in result.output


def test_the_module_is_the_command_and_help_imports_nothing_heavy() -> None:
    watch = "import sys, runpy, atexit; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr));"
    program = f"{watch} sys.argv[1:] = ['--help']; runpy.run_module('nexuskit.cli', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0
    assert "Usage: nexus" in result.stdout
    # Typer is not in the list, nor what its older versions import: Rich, asyncio.
    heavy = {"grpc", "temporalio", "google.protobuf", "pydantic", "uvloop", "starlette", "uvicorn", "nexuskit.backend"}
    assert not heavy & set(result.stderr.split())


@pytest.mark.parametrize("code", [0, 1])
def test_the_demo_s_exit_code_is_the_program_s(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []

    def run(**options: bool) -> Coroutine[Any, Any, int]:
        asked.append(options)
        return _answer(code)

    monkeypatch.setattr(nexuskit.demo.run, "run", run)
    monkeypatch.setattr(nexuskit.demo.run, "quiet_runtime", lambda: None)
    assert CliRunner().invoke(app, ["demo", "--crash", "--json"]).exit_code == code
    assert asked == [{"crash": True, "json": True}]


async def _answer(code: int) -> int:
    return code


def test_a_backend_that_cannot_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(**options: bool) -> int:
        raise StartError("Port 1 is taken.")

    monkeypatch.setattr(nexuskit.demo.run, "run", refuse)
    monkeypatch.setattr(nexuskit.demo.run, "quiet_runtime", lambda: None)
    result = CliRunner().invoke(app, ["demo"])
    assert (result.exit_code, result.output) == (ExitCode.REFUSED, "nexus: Port 1 is taken.\n")


def test_the_reference_in_the_document_is_current() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == rewritten(document), "run: python -m nexuskit.cli.reference docs/cli.md"


def test_the_reference_has_every_command_and_option() -> None:
    text = reference()
    for name in ("nexus demo", "nexus serve", "--db FILE", "--http-port PORT", "--namespace NAME", "--log-level LEVEL"):
        assert name in text


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        rewritten("# The command line\n")


def test_the_document_has_every_exit_code() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"\n| {code.value} | " in document for code in ExitCode)
