"""Workers that tell how they are."""

from __future__ import annotations

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.matching.workers import Workers
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def workers(clock: FakeClock) -> Workers:
    return Workers(clock, limits=DEFAULTS)


def worker(key: str, **more: object) -> WorkerHeartbeat:
    return WorkerHeartbeat(worker_instance_key=key, **more)


def keys(workers: Workers, namespace: str = "ns") -> list[str]:
    return [each.worker_instance_key for each in workers.all(namespace)]


def test_the_newest_heartbeat_counts_in_its_own_namespace(workers: Workers) -> None:
    workers.record("ns", [worker("b"), worker("a", task_queue="old")])
    workers.record("ns", [worker("a", task_queue="new")])
    workers.record("other", [worker("c")])
    assert keys(workers) == ["a", "b"]
    assert workers.get("ns", "a").task_queue == "new"
    with pytest.raises(StatusError) as refused:
        workers.get("ns", "c")
    assert (refused.value.code, refused.value.message) == (Code.NOT_FOUND, "Worker c not found")


def test_one_that_says_nothing_is_forgotten_after_a_while(workers: Workers, clock: FakeClock) -> None:
    workers.record("ns", [worker("a"), worker("b")])
    clock.pass_time(limits.WORKER_REMEMBERED - SECOND)
    workers.record("ns", [worker("a")])
    assert keys(workers) == ["a", "b"]
    clock.pass_time(SECOND)
    assert keys(workers) == ["a"]


def test_one_that_has_shut_down_is_forgotten_at_once(workers: Workers) -> None:
    workers.record("ns", [worker("a"), worker("b")])
    workers.record("ns", [worker("a", status=WorkerStatus.WORKER_STATUS_SHUTDOWN)])
    workers.record("ns", [worker("b", status=WorkerStatus.WORKER_STATUS_SHUTTING_DOWN)])
    assert keys(workers) == ["b"]


def test_of_too_many_the_oldest_are_forgotten(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WORKERS_LISTED", 2)
    workers.record("ns", [worker("a"), worker("b"), worker("c")])
    assert keys(workers) == ["b", "c"]


def test_a_heartbeat_just_under_the_limit_is_kept_and_one_just_over_is_refused(workers: Workers) -> None:
    room = limits.WORKER_HEARTBEAT_SIZE - worker("a", sdk_name="x" * 60_000).ByteSize() + 60_000
    assert worker("a", sdk_name="x" * room).ByteSize() == limits.WORKER_HEARTBEAT_SIZE
    workers.record("ns", [worker("a", sdk_name="x" * room)])
    with pytest.raises(StatusError, match="65537 bytes, at most 65536"):
        workers.record("ns", [worker("b", sdk_name="x" * (room + 1))])
    assert keys(workers) == ["a"]


def test_large_ones_are_as_many_as_fit(workers: Workers) -> None:
    large = "x" * (limits.WORKER_HEARTBEAT_SIZE - 1000)
    fit = limits.WORKERS_LISTED_SIZE // worker("0000", worker_identity=large).ByteSize()
    for _ in range(2):  # the second time they are the same ones
        for number in range(fit + 3):
            workers.record("ns", [worker(f"{number:04}", worker_identity=large)])
    assert keys(workers) == [f"{number:04}" for number in range(3, fit + 3)]
    workers.record("ns", [worker(key) for key in keys(workers)])
    workers.record("ns", [worker(f"small-{number}") for number in range(100)])
    assert len(keys(workers)) == fit + 100
