"""Options of the whole test suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import hypothesis
import pytest

from tests.support.servers import CALLERS, HANDLERS, Server, serve, why_not

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


@pytest.fixture(scope="session")
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """The server under test, one for the session; `--server` chooses it."""
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    async with serve(request.param, [CALLERS, HANDLERS]) as running:
        yield running


@pytest.fixture
def embedded_only(server: Server) -> None:
    """For what the embedded backend does and a real server does not."""
    if server.kind != "embedded":
        pytest.skip("a real server does otherwise")
