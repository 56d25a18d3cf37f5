"""A trace as text: columns, colours, and nothing that a terminal would obey."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from nexuskit.trace import (
    Activity,
    ChildWorkflow,
    Failure,
    Handler,
    NexusCall,
    Node,
    Ref,
    State,
    Timer,
    Unreadable,
    Workflow,
    print_trace,
)
from nexuskit.trace.render import duration_text
from tests.trace.histories import START

DECLINED = Failure(kind="application", type="CardDeclined", message="the bank refused")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


PAYMENT = Workflow(
    state=State.FAILED,
    start=at(0.1),
    end=at(1.5),
    failure=DECLINED,
    namespace="payments",
    workflow_id="payment-1",
    run_id="r2",
    type="ProcessPayment",
    task_queue="payments",
    steps=(
        Timer(state=State.FIRED, start=at(0.1), end=at(1.1), event_id=5, timer_id="1", timeout_s=1.0),
        Activity(
            state=State.FAILED,
            start=at(1.1),
            end=at(1.112),
            failure=DECLINED,
            event_id=9,
            activity_id="1",
            type="charge_card",
            task_queue="payments",
            attempts=3,
        ),
    ),
)

CALL = NexusCall(
    state=State.FAILED,
    start=START,
    started=at(0.05),
    end=at(1.6),
    failure=replace(DECLINED, kind="nexus_operation", type=None, message="unsuccessful", cause=DECLINED),
    event_id=5,
    endpoint="payments",
    service="PaymentService",
    operation="process",
    token="t",
    handler=Handler(namespace="payments", task_queue="queue"),
    target=PAYMENT,
)

ORDER = Workflow(
    state=State.COMPLETED,
    start=START,
    end=at(2),
    namespace="orders",
    workflow_id="order-1",
    run_id="r1",
    type="PlaceOrder",
    task_queue="orders",
    steps=(CALL,),
)


def printed(node: Node, *, width: int = 100, now: float | None = None, **options: object) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, **options)  # pyright: ignore[reportArgumentType]
    print_trace(console, node, now=None if now is None else at(now))
    return file.getvalue()


def test_a_whole_tree() -> None:
    assert (
        printed(ORDER)
        == """\
PlaceOrder order-1                           orders    completed  2.00 s
└─ nexus PaymentService.process at payments  orders    failed     1.60 s  async
   └─ handler, task queue queue              payments  answered    50 ms
      └─ ProcessPayment payment-1            payments  failed     1.40 s
         ├─ timer 1 s                        payments  fired      1.00 s
         └─ activity charge_card             payments  failed      12 ms  3 attempts
               ✗ CardDeclined: the bank refused
"""
    )


def test_no_colour_and_no_cutting_where_there_is_no_terminal() -> None:
    text = printed(ORDER, width=20)
    assert "\x1b" not in text
    assert "3 attempts" in text


def test_colour_by_state_and_lines_cut_to_the_width_on_a_terminal() -> None:
    text = printed(ORDER, width=76, force_terminal=True, color_system="standard", legacy_windows=False)
    assert "\x1b[32mcompleted" in text
    assert "\x1b[31mfailed" in text
    assert len(text.splitlines()) == 7
    assert "attempts" not in text


def test_a_console_without_unicode_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    print_trace(Console(file=file, width=100), ORDER)
    file.seek(0)
    text = file.read()
    assert "`- nexus PaymentService.process" in text
    assert "x CardDeclined" in text


def test_names_and_messages_cannot_steer_the_terminal() -> None:
    evil = replace(
        ORDER, steps=(), type="[red]A\x1b[2J", failure=Failure(kind="application", message="two\nlines\x07\u202e")
    )
    text = printed(evil)
    assert text.splitlines()[0].startswith("[red]A [2J order-1")
    assert text.splitlines()[1] == "   ✗ two lines"


def test_a_failure_is_told_where_it_happened_and_again_only_if_it_changed() -> None:
    assert printed(ORDER).count("CardDeclined") == 1
    other = replace(CALL, failure=Failure(kind="timeout", message="too late"))
    assert "✗ too late" in printed(replace(ORDER, steps=(other,)))


def test_an_open_span_has_its_time_so_far() -> None:
    running = replace(ORDER, state=State.RUNNING, end=None, steps=())
    assert printed(running, now=3).rstrip().endswith("running  3.00 s …")
    assert printed(running).rstrip().endswith("running")
    assert printed(running, now=-3).rstrip().endswith("0 ms …"), "a server's clock may be ahead of ours"


def test_what_cannot_be_read_is_one_line() -> None:
    link = Ref(namespace="payments", kind="workflow", id="payment-1", run_id="r")
    call = replace(CALL, failure=None, target=Unreadable(link=link, reason="PERMISSION_DENIED: no"))
    last = printed(replace(ORDER, steps=(call,))).splitlines()[-1]
    assert last == "      └─ workflow payment-1 in payments  cannot be read: PERMISSION_DENIED: no"
    assert printed(Unreadable(link=link, reason="no")) == "workflow payment-1 in payments  cannot be read: no\n"


def test_a_standing_workflow_says_why() -> None:
    standing = replace(
        ORDER, state=State.RUNNING, end=None, steps=(), task_failure=Failure(kind="application", message="no endpoint")
    )
    assert printed(standing).splitlines()[1:] == ["└─ workflow task keeps failing", "      ✗ no endpoint"]


def test_children_next_runs_urls_and_attempts() -> None:
    link = Ref(namespace="orders", kind="workflow", id="child", run_id="r")
    child = ChildWorkflow(state=State.RUNNING, start=START, event_id=5, type="Ship", link=link, target=ORDER)
    call = replace(CALL, handler=Handler(url="https://pay.example"), target=None, failure=None)
    again = replace(ORDER, attempt=2, steps=())
    lines = printed(replace(ORDER, steps=(child, call), next_run=again)).splitlines()
    assert lines[1].startswith("├─ child Ship")
    assert lines[2].startswith("│  └─ PlaceOrder order-1")
    assert any("└─ handler at https://pay.example" in line for line in lines)
    assert lines[-1].startswith("└─ PlaceOrder order-1")
    assert lines[-1].endswith("attempt 2")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.012, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (59.99, "59.99 s"),
        (59.999, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (11400, "3 h 10 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
