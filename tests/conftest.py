"""Options of the whole test suite."""

from __future__ import annotations

import hypothesis
import pytest

# How long an example takes is the machine's affair, and it may be busy with other things.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--server real`, leaves out the tests that run on no server, or on the embedded one alone."""
    if config.getoption("--server") != "real":
        return
    left_out = [item for item in items if "server" not in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
