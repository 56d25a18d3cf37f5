"""Configuration: every limit can be set, for one backend and no other, and what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import ActivityType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest

from nexuskit.backend import limits, serve, times
from nexuskit.backend.configuration import FIXED, Kind, configured, kind, settable
from nexuskit.backend.errors import StartError
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import HOUR, SECOND
from tests.support.raw import Namespace, refusal
from tests.support.values import duration, payloads, schedule_operation


def refused(document: Any) -> str:
    with pytest.raises(StartError) as told:
        configured(document)
    return str(told.value)


def test_without_one_the_constants_hold() -> None:
    assert configured(None).limits is DEFAULTS
    assert configured({}).limits.HISTORY_EVENTS == limits.HISTORY_EVENTS


def test_numbers_sizes_times_and_factors() -> None:
    made = configured(
        {
            "limits": {
                "history_events": 100,
                "payload_size": "1.5 MiB",
                "memo_size": 1000,
                "long_poll": "500 ms",
                "retention_default": "2 d",
                "activity_retry_coefficient": 3,
            }
        }
    ).limits
    assert (made.HISTORY_EVENTS, made.PAYLOAD_SIZE, made.MEMO_SIZE) == (100, 1536 * 1024, 1000)
    assert (made.LONG_POLL, made.RETENTION_DEFAULT) == (SECOND // 2, 48 * HOUR)
    assert made.ACTIVITY_RETRY_COEFFICIENT == 3.0
    assert made.ID_LENGTH == limits.ID_LENGTH
    with pytest.raises(AttributeError):
        made.ID_LENGTH = 5


def test_limits_of_grpc_fit_into_its_numbers() -> None:
    assert configured({"limits": {"grpc_calls_at_once": 5}}).limits.GRPC_CALLS_AT_ONCE == 5
    assert "more than anybody has" not in refused({"limits": {"grpc_calls_at_once": "5 s"}})
    assert "no more than anybody has" in refused({"limits": {"grpc_message_size": 2**31}})


def test_every_limit_can_be_set() -> None:
    for name in settable():
        default = getattr(limits, name)
        value = f"{default // 1_000_000} ms" if kind(name) is Kind.TIME else default
        assert getattr(configured({"limits": {name.lower(): value}}).limits, name) == default, name
    names = {name for name in vars(limits) if name.isupper()} - {*vars(times), "UNKNOWN_ENDPOINT"}
    assert {*settable(), *FIXED} == names


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"limits": {"history_event": 5}}, "there is no limit 'history_event'; did you mean 'history_events'?"),
        ({"limits": {"zzz": 5}}, "there is no limit 'zzz'; docs/configuration.md lists them."),
        ({"limits": {"batch_size": 5}}, "limits.batch_size cannot be set: pages of history depend on it."),
        ({"limit": {}}, "has an unknown key 'limit'; did you mean 'limits'?"),
        ({"limits": 5}, "'limits' must be a table, [limits]."),
        ({"limits": {"history_events": "many"}}, "limits.history_events must be a whole number, not 'many'."),
        ({"limits": {"history_events": True}}, "limits.history_events must be a whole number, not True."),
        ({"limits": {"history_events": 0}}, "limits.history_events must be more than nothing"),
        ({"limits": {"history_events": 1 << 60}}, "no more than anybody has"),
        ({"limits": {"payload_size": -1}}, "limits.payload_size must be more than nothing"),
        ({"limits": {"payload_size": "4 MB"}}, "must be bytes, such as 4096 or '4 MiB' (B, KiB, MiB), not '4 MB'."),
        ({"limits": {"long_poll": 30}}, "limits.long_poll must be a time such as '30 s' (ms, s, min, h, d), not 30."),
        ({"limits": {"long_poll": "30 parsecs"}}, "must be a time such as '30 s'"),
        ({"limits": {"long_poll": "1000000 d"}}, "no more than anybody has"),
        ({"limits": {"activity_retry_coefficient": 0.5}}, "must be at least 1, not 0.5."),
        ({"limits": {"activity_retry_coefficient": "2"}}, "must be a number, not '2'."),
        (
            {"limits": {"retention_min": "100 d"}},
            "limits.retention_min must not be more than limits.retention_default.",
        ),
        ({"unknown_endpoint": "panic"}, "unknown_endpoint must be 'fail_operation' or 'fail_task', not 'panic'."),
        ({"outbond": {}}, "has an unknown key 'outbond'; did you mean 'outbound'?"),
        ({"outbound": []}, "'outbound' must be a table, [outbound]."),
        ({"outbound": {"alow": []}}, "[outbound] has an unknown key 'alow'; did you mean 'allow'?"),
        ({"outbound": {"zzz": 1}}, "there are allow, public_url, ca_file."),
        ({"outbound": {"allow": "a.example:443"}}, "outbound.allow must be a list of texts, not 'a.example:443'."),
        ({"outbound": {"allow": ["a.example"]}}, "'a.example': no host and port"),
        ({"outbound": {"public_url": "orders.example"}}, "outbound.public_url must be a URL"),
        ({"outbound": {"public_url": "https://orders.example/?x"}}, "outbound.public_url must be a URL"),
        ({"outbound": {"ca_file": 5}}, "outbound.ca_file must be a path, not 5."),
        ({"unknown_endpont": "fail_task"}, "unknown key 'unknown_endpont'; did you mean 'unknown_endpoint'?"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(document: Any, told: str) -> None:
    message = refused(document)
    assert told in message
    assert "\n" not in message


def test_where_requests_may_go() -> None:
    nowhere = configured(None).outbound
    assert (nowhere.allow.patterns, nowhere.public_url, nowhere.ca_file) == ((), "", "")
    made = configured(
        {"outbound": {"allow": ["a.example:443"], "public_url": "https://orders.example/nx/", "ca_file": "ca.pem"}}
    ).outbound
    assert (made.allow.patterns, made.public_url) == (("a.example:443",), "https://orders.example/nx")
    assert made.ca_file == "ca.pem"


async def test_authorities_that_cannot_be_read_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("none.pem", "empty.pem"):
        outbound = {"allow": ["a.example:443"], "ca_file": str(tmp_path / name)}
        with pytest.raises(StartError, match=f"{name} cannot be read"):
            async with serve(config={"outbound": outbound}):
                pass


def test_a_file_that_cannot_be_read_or_is_no_toml_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[limits\n")
    assert "is no TOML" in refused(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text('[limits]\nlong_poll = "5 s"\n')
    assert configured(tmp_path / "good.toml").limits.LONG_POLL == 5 * SECOND


async def test_two_backends_in_one_process_have_limits_of_their_own() -> None:
    small = {"limits": {"payload_size": 1000, "id_length": 40}}
    async with (
        serve(config=small) as one,
        serve() as other,
        grpc.aio.insecure_channel(one.address) as to_one,
        grpc.aio.insecure_channel(other.address) as to_other,
    ):
        here, there = Namespace("default", to_one), Namespace("default", to_other)
        big = payloads("x" * 2000)
        await there.start("order", "queue", input=big)
        assert "at most 1000" in (await refusal(here.start("order", "queue", input=big))).message
        await there.start("o" * 41, "queue")
        assert "(41/40)" in (await refusal(here.start("o" * 41, "queue"))).message


async def test_an_activity_that_stands_alone_keeps_to_the_limits_of_its_backend() -> None:
    async with (
        serve(config={"limits": {"id_length": 40}}) as backend,
        grpc.aio.insecure_channel(backend.address) as channel,
    ):
        request = StartActivityExecutionRequest(
            namespace="default",
            activity_id="a" * 41,
            activity_type=ActivityType(name="pack"),
            task_queue=TaskQueue(name="queue"),
            start_to_close_timeout=duration(1),
        )
        told = await refusal(Namespace("default", channel).service.StartActivityExecution(request))
        assert told.message == "activityId exceeds length limit. Length=41 Limit=40"


async def test_an_unknown_endpoint_fails_the_workflow_task_where_that_is_wanted() -> None:
    async with (
        serve(config={"unknown_endpoint": "fail_task"}) as backend,
        grpc.aio.insecure_channel(backend.address) as channel,
    ):
        orders = Namespace("default", channel)
        await orders.start("order", "queue")
        task = await orders.poll_workflow_task("queue")
        told = await refusal(orders.complete_workflow_task(task, schedule_operation("nowhere")))
        assert told.code == grpc.StatusCode.INVALID_ARGUMENT
        assert "endpoint 'nowhere' not found" in told.message
        assert (await orders.poll_workflow_task("queue")).attempt == 2
