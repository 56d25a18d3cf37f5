"""`nexus demo` as people and programs run it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nexuskit import backend
from nexuskit.cli.app import ExitCode
from nexuskit.demo import crash, run
from nexuskit.demo.checks import Check
from nexuskit.demo.crash import BackendProcess
from nexuskit.demo.report import Outcome, Teller, as_json, show
from nexuskit.demo.scenario import GOOD, ORDERS, Order
from nexuskit.trace import Ref, Unreadable

DOCUMENT = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")


async def nexus(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexuskit.cli", *arguments, stdout=pipe, stderr=pipe, env={**os.environ, "COLUMNS": "80"}
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_the_demo_shows_both_orders_and_says_nothing_else() -> None:
    code, output, errors = await nexus("demo")
    assert (code, errors) == (0, ""), output
    assert "\x1b" not in output
    for line in (
        r"^order-1: paid, 4242 cents, receipt payment-order-1$",
        r"^├─ nexus PaymentService\.quote at payments +orders +completed +\d+ ms  sync$",
        r"^└─ nexus PaymentService\.process at payments +orders +completed +[\d.]+ s  async$",
        r"^   └─ handler, task queue payments +payments +answered +\d+ ms$",
        r"^      └─ ProcessPayment payment-order-1 +payments +completed +[\d.]+ s$",
        r"^         ├─ activity charge_card +payments +completed +\d+ ms$",
        r"^         └─ timer 1 s +payments +fired +1\.\d\d s$",
        r"^order-2: declined, insufficient funds$",
        r"^ +✗ CardDeclined: The card was refused.$",
        r"^13 of 13 checks hold, \d+\.\d s in all$",
    ):
        assert re.search(line, output, re.MULTILINE), f"{line}\n{output}"


async def test_the_json_is_all_there_is_on_standard_output() -> None:
    code, output, errors = await nexus("demo", "--json")
    form = json.loads(output)
    assert (code, form["ok"], errors) == (0, True, "")
    assert [order["order_id"] for order in form["orders"]] == ["order-1", "order-2"]
    process = form["orders"][0]["trace"]["steps"][1]
    assert (process["operation"], process["target"]["namespace"]) == ("process", "payments")
    assert process["target"]["steps"][1]["duration_s"] >= 1
    assert form["orders"][1]["result"]["declined"] == "insufficient funds"


async def test_an_order_outlives_a_killed_backend() -> None:
    code, output, errors = await nexus("demo", "--crash", "--json")
    form = json.loads(output)
    assert [check for check in form["checks"] if not check["ok"]] == []
    assert (code, form["ok"]) == (0, True)
    assert "the order completed exactly once" in {check["what"] for check in form["checks"]}
    told = "\n".join(form["told"])
    assert len(set(re.findall(r"process (\d+)", told))) == 2, told
    assert [line.removeprefix("- ") for line in errors.splitlines()] == form["told"]


async def test_a_demo_that_is_terminated_leaves_no_backend_behind() -> None:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = [sys.executable, "-m", "nexuskit.cli", "demo", "--crash", "--json"]
    process = await asyncio.create_subprocess_exec(*command, stdout=null, stderr=pipe)
    assert process.stderr is not None
    told = (await process.stderr.readline()).decode()
    found = re.search(r"process (\d+)", told)
    assert found, told
    process.terminate()
    await process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


def outcome(*, ok: bool) -> Outcome:
    unreadable = Unreadable(link=Ref(namespace=ORDERS, kind="workflow", id="order-1", run_id="r"), reason="no")
    return Outcome(
        address="127.0.0.1:1",
        http_address="127.0.0.1:2",
        database="nexus.db",
        orders=(Order(GOOD, None, "ApplicationError: no", unreadable),),
        checks=(Check("the order has its receipt", ok, "None"), Check("the rest is well", True, "")),
        duration_s=1.25,
    )


@pytest.mark.parametrize("ok", [True, False])
async def test_the_exit_code_tells_whether_all_checks_hold(
    ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(teller: Teller, database: Path) -> Outcome:
        return outcome(ok=ok)

    monkeypatch.setattr(run, "run_plain", play)
    assert await run.run() == (0 if ok else 1)
    assert ("wrong: the order has its receipt; seen: None" in capsys.readouterr().out) == (not ok)
    assert await run.run(json=True) == (0 if ok else 1)
    assert json.loads(capsys.readouterr().out)["ok"] is ok


async def test_a_demo_that_hangs_ends_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(teller: Teller, database: Path) -> Outcome:
        teller.say("waiting for order-1")
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(run, "run_plain", play)
    monkeypatch.setattr(run, "DEADLINE", run.DEADLINE / 10000)
    assert await run.run() == 1
    assert "waiting for order-1" in capsys.readouterr().err


def test_a_failed_order_is_shown_with_its_reason() -> None:
    file = io.StringIO()
    show(Console(file=file, width=100), outcome(ok=False))
    text = file.getvalue()
    assert "order-1: failed, ApplicationError: no" in text
    assert "workflow order-1 in orders  cannot be read: no" in text
    assert "1 of 2 checks hold, 1.2 s in all" in text


def test_what_is_told_is_a_line_each_or_one_that_changes_or_nothing() -> None:
    def told(*, as_lines: bool, terminal: bool) -> str:
        file = io.StringIO()
        teller = Teller(Console(file=file, width=60, force_terminal=terminal), as_lines)
        with teller.telling():
            teller.say("placing order-1")
            teller.say("waiting for order-1")
        return file.getvalue()

    assert told(as_lines=True, terminal=False) == "- placing order-1\n- waiting for order-1\n"
    assert told(as_lines=False, terminal=False) == ""
    assert "\n- " not in told(as_lines=False, terminal=True)


def test_the_document_has_every_name_of_the_json() -> None:
    form: dict[str, Any] = json.loads(as_json(replace(outcome(ok=True)), []))
    names = {*form, *form["backend"], *form["orders"][0], *form["checks"][0]}
    assert not [name for name in sorted(names) if f"`{name}`" not in DOCUMENT]


async def test_a_backend_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "nexus.db"
    folder.mkdir()
    with pytest.raises(backend.StartError, match=str(folder)):
        await BackendProcess(folder).start()


async def test_a_backend_process_comes_back_on_the_same_ports(tmp_path: Path) -> None:
    async with BackendProcess(tmp_path / "nexus.db") as process:
        before = (process.address, process.http_address)
        first = process.pid
        await process.kill()
        assert process.pid is None
        await process.start()
        assert (process.address, process.http_address) == before
        assert process.pid != first
        assert await process.stop() == 0
    assert await process.stop() is None


async def test_a_backend_process_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "START_TIMEOUT", crash.START_TIMEOUT / 1e6)
    with pytest.raises(backend.StartError, match="was not ready"):
        await BackendProcess(tmp_path / "nexus.db").start()
