"""Options of the whole test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--server` chooses what the shared behaviour tests in tests/backend run against."""
    parser.addoption(
        "--server",
        choices=["embedded", "real", "both"],
        default="embedded",
        help="the server for the behaviour tests: the embedded backend, a real Temporal server, or each in turn",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that asks for `server` once for each server that was chosen."""
    if "server" in metafunc.fixturenames:
        chosen: str = metafunc.config.getoption("--server")
        kinds = ["embedded", "real"] if chosen == "both" else [chosen]
        metafunc.parametrize("server", kinds, indirect=True, scope="session")
