"""The type checker knows from a service definition what goes in and what comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT

PROGRAM = """
from typing import Any, assert_type

from nexusrpc import Operation, service
from nexuskit.protocol.client import NexusClient, OperationHandle


@service
class Payments:
    charge: Operation[int, str]


async def main(client: NexusClient) -> None:
    assert_type(await client.execute_operation(Payments.charge, 5), str)
    assert_type(await client.start_operation(Payments.charge, 5), OperationHandle[str])
    assert_type(await (await client.start_operation(Payments.charge, 5)).result(), str)
    assert_type(await client.execute_operation("charge", 5, output_type=str), str)
    assert_type(await client.execute_operation("charge", 5), Any)
    assert_type(client.operation_handle(Payments.charge, "t"), OperationHandle[str])
    await client.execute_operation(Payments.charge, "five")  # refused
    await client.start_operation(Payments.charge, "five")  # refused
"""


@pytest.mark.slow
def test_what_goes_in_and_what_comes_out_is_known(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--level", "error", str(tmp_path / "program.py")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    refused = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# refused")]
    told = {int(line.split("program.py:")[1].split(":")[0]) for line in run.stdout.splitlines() if "- error" in line}
    assert told == set(refused), run.stdout
