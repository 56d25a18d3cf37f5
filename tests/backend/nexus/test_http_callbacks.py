"""Completions as they go to URLs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from temporalio.api.common.v1 import Callback, Link, Payload, Payloads
from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
from temporalio.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure

from nexuskit.backend import limits
from nexuskit.backend.history.workflow import Outcome
from nexuskit.backend.nexus.completions import Completion
from nexuskit.backend.nexus.http_callbacks import destination, written
from nexuskit.backend.nexus.http_calls import USER_AGENT
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from nexuskit.protocol.errors import LocalProtocolError
from nexuskit.protocol.values import HttpRequest

URL = "https://orders.example/done?order=1"
ACTIVITY = Link(activity=Link.Activity(namespace="pay", activity_id="a/1", run_id="run"))
BEGAN, CLOSED = 784_111_777 * SECOND + 5, 784_111_780 * SECOND + 123_456_789


def sent(outcome: Outcome, token: str = "", header: Mapping[str, str] | None = None) -> HttpRequest:
    target = Callback.Nexus(url=URL, header=header or {})
    return written(target, Completion(outcome, BEGAN, [ACTIVITY], token), CLOSED, DEFAULTS)


def completed(*payloads: Payload) -> Outcome:
    return Outcome(int(Status.WORKFLOW_EXECUTION_STATUS_COMPLETED), result=Payloads(payloads=payloads))


def test_a_result() -> None:
    request = sent(completed(Payload(metadata={"encoding": b"json/plain"}, data=b"5")), "token", {"Token": "secret"})
    assert (request.method, request.target, request.body) == ("POST", URL, b"5")
    assert dict(request.headers) == {
        "user-agent": USER_AGENT,
        "token": "secret",
        "nexus-operation-state": "succeeded",
        "nexus-operation-token": "token",
        "nexus-operation-start-time": "Sun, 06 Nov 1994 08:49:37 GMT",
        "nexus-operation-close-time": "1994-11-06T08:49:40.123456Z",
        "nexus-link": (
            '<temporal:///namespaces/pay/activities/a%2F1/run/details>; type="temporal.api.common.v1.Link.Activity"'
        ),
        "content-type": "application/json",
    }


def test_of_several_results_the_first_is_told_and_none_is_null() -> None:
    one, two = (Payload(metadata={"encoding": b"json/plain"}, data=data) for data in (b"1", b"2"))
    assert sent(completed(one, two)).body == b"1"
    for outcome in (completed(), Outcome(int(Status.WORKFLOW_EXECUTION_STATUS_COMPLETED))):
        assert sent(outcome).body == b""
        assert "content-type" not in dict(sent(outcome).headers)


FAILURE = Failure(message="no", application_failure_info=ApplicationFailureInfo(type="OutOfStock"))
CANCELED = Failure(message="called off", canceled_failure_info=CanceledFailureInfo())


@pytest.mark.parametrize(
    ("status", "failure", "state", "message"),
    [
        (Status.WORKFLOW_EXECUTION_STATUS_FAILED, FAILURE, "failed", "no"),
        (Status.WORKFLOW_EXECUTION_STATUS_FAILED, CANCELED, "failed", "called off"),
        (Status.WORKFLOW_EXECUTION_STATUS_FAILED, None, "failed", "operation failed"),
        (Status.WORKFLOW_EXECUTION_STATUS_CANCELED, CANCELED, "canceled", "called off"),
        (Status.WORKFLOW_EXECUTION_STATUS_TERMINATED, None, "failed", "operation terminated"),
        (Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, None, "failed", "operation exceeded internal timeout"),
    ],
)
def test_a_failure_is_the_body_as_it_is(status: int, failure: Failure | None, state: str, message: str) -> None:
    request = sent(Outcome(int(status), failure=failure))
    headers = dict(request.headers)
    assert (headers["nexus-operation-state"], headers["content-type"]) == (state, "application/json")
    body = json.loads(request.body)
    assert (body["message"], body["metadata"]) == (message, {"type": "temporal.api.failure.v1.Failure"})


def test_a_failure_that_would_be_too_long_is_cut() -> None:
    details = Payloads(payloads=[Payload(data=b"\xff" * (limits.PAYLOAD_SIZE - 1000))])
    info = ApplicationFailureInfo(type="OutOfStock", details=details)
    failure = Failure(message="no", application_failure_info=info)
    request = sent(Outcome(int(Status.WORKFLOW_EXECUTION_STATUS_FAILED), failure=failure))
    body = json.loads(request.body)
    assert len(request.body) < limits.PAYLOAD_SIZE
    assert (body["message"], body["details"]["applicationFailureInfo"]) == ("no", {"type": "OutOfStock"})


@pytest.mark.parametrize(
    "name",
    ["Nexus-Operation-State", "nexus-operation-token", "Nexus-Link", "content-type", "Content-Length", "Host", "te"],
)
def test_header_fields_that_came_with_the_callback_replace_nothing(name: str) -> None:
    request = sent(completed(), "token", {name: "mine"})
    assert "mine" not in dict(request.headers).values()


@pytest.mark.parametrize("header", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "\u20ac"}])
def test_header_fields_that_are_none_cannot_be_sent(header: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        sent(completed(), header=header)


def test_callbacks_to_one_host_and_port_go_together() -> None:
    assert destination("https://A.example/one") == destination("https://a.example:443/two?x") == "https://a.example:443"
    assert destination("temporal://system") == "temporal://system"
