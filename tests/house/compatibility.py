"""Makes docs/compatibility.md from the table of calls: `python -m tests.house.compatibility docs/compatibility.md`.

A call is implemented if it is in `nexuskit.backend.frontend.table`, and partly if fields of its request are refused by
`nexuskit.backend.frontend.checks`, or `MISSING` says what is missing. The test that shows it is the one of
tests/backend that names it most often; `SHOWN_BY` names another one, where that is a better answer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from nexuskit.backend.frontend.checks import ACCEPTED, HARMLESS, REFUSED
from nexuskit.backend.frontend.grpc_server import SERVICES
from tests.house.fields import reachable
from tests.house.tree import ROOT

MISSING: Mapping[str, str] = {
    "ResetWorkflowExecution": "post-reset operations other than signals",
    "PauseActivityExecution": "an activity that stands alone; off on a real server too, unless it is turned on",
    "ResetActivityExecution": "an activity that stands alone",
    "StartActivityExecution": "eager start: the hint is not followed",
    "UnpauseActivityExecution": "an activity that stands alone",
    "UpdateActivityExecutionOptions": "an activity that stands alone",
    "DescribeTaskQueue": "versions; the enhanced mode tells of the unversioned workers alone",
    "UpdateNamespace": "`update_info.state` DELETED; in `config` all but the retention",
}
"""Call → what of it is not done, beside the fields that are refused."""

SHOWN_BY: Mapping[str, str] = {
    "StartActivityExecution": "tests/backend/test_standalone_activities.py",
    "DescribeActivityExecution": "tests/backend/test_standalone_activities.py",
    "PollActivityExecution": "tests/backend/test_standalone_activities.py",
    "RequestCancelActivityExecution": "tests/backend/test_standalone_activities.py",
    "TerminateActivityExecution": "tests/backend/test_standalone_activities.py",
    "StartNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "DescribeNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "PollNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "RequestCancelNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "TerminateNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "DeleteNexusOperationExecution": "tests/backend/test_standalone_operations.py",
    "StartWorkflowExecution": "tests/backend/test_workflows.py",
    "DescribeWorkflowExecution": "tests/backend/test_workflows.py",
    "GetWorkflowExecutionHistory": "tests/backend/test_history.py",
    "PollWorkflowTaskQueue": "tests/backend/test_workflow_tasks.py",
    "RespondWorkflowTaskCompleted": "tests/backend/test_workflow_tasks.py",
    "RespondWorkflowTaskFailed": "tests/backend/test_workflow_tasks.py",
    "PollActivityTaskQueue": "tests/backend/test_activities.py",
    "RespondActivityTaskCompleted": "tests/backend/test_activities.py",
    "RespondActivityTaskFailed": "tests/backend/test_activities.py",
    "PollNexusTaskQueue": "tests/backend/test_nexus_operations.py",
    "RespondNexusTaskCompleted": "tests/backend/test_nexus_operations.py",
    "RespondNexusTaskFailed": "tests/backend/test_nexus_failures.py",
    "CountWorkflowExecutions": "tests/backend/test_visibility.py",
    "ListWorkflowExecutions": "tests/backend/test_visibility.py",
    "RespondActivityTaskCompletedById": "tests/backend/test_activities_by_id.py",
    "ShutdownWorker": "tests/backend/test_workers.py",
    "GetClusterInfo": "tests/backend/test_system.py",
    "RespondActivityTaskCanceled": "tests/backend/test_activities.py",
    "RecordActivityTaskHeartbeat": "tests/backend/test_activities.py",
    "RequestCancelWorkflowExecution": "tests/backend/test_cancel.py",
    "TerminateWorkflowExecution": "tests/backend/test_cancel.py",
    "SignalWorkflowExecution": "tests/backend/test_signals.py",
    "UpdateWorkflowExecution": "tests/backend/test_updates.py",
    "PollWorkflowExecutionUpdate": "tests/backend/test_updates.py",
    "SignalWithStartWorkflowExecution": "tests/backend/test_signals.py",
    "CreateNexusEndpoint": "tests/backend/test_nexus_endpoints.py",
    "UpdateNamespace": "tests/backend/test_namespaces.py",
    "DescribeNamespace": "tests/backend/test_namespaces.py",
    "RegisterNamespace": "tests/backend/test_namespaces.py",
    "ListNamespaces": "tests/backend/test_namespaces.py",
}
"""Call → the test that shows it."""

HEAD = """# What the embedded backend does of Temporal's API

It behaves like a Temporal server 1.32, as far as the tables say; the same tests run against both. A call that is
refused answers UNIMPLEMENTED with its name, and so does a request that sets a field which would not be honoured.
Where something is refused for a limit, a name or what is missing, the text, also that of the failed workflow task and
of the termination, begins with the real server's own; what is added (which thing, how large, what limit) follows it.
Made by
`python -m tests.house.compatibility docs/compatibility.md`, from the tables that the backend itself works with.
"""

OTHERWISE = """## Where it does otherwise

"There" is a real server 1.32 with its default settings.

Starting and chains:

- A repeated signal with start finds the run that it started, though that has closed; there, it starts a second one.
- Continue-as-new with a cron schedule that cannot be read fails the workflow task; there, no run follows the next one.
- A run that the cron schedule starts has the callbacks of the one before, which are told the end of the chain;
  there, they are dropped.
- The last completion result outlives failed attempts; there, an attempt that fails loses it.
- The propagated serialization context is kept along a chain; there, it is not kept at all.
- A child that insists on its own parent's id (`TERMINATE_IF_RUNNING`) terminates the parent and takes its place;
  there, it waits for itself.
- A repeated reset request gets the first answer; there, the workflow is reset again.
- A run that came about by a reset ends its children by their parent close policy; there, those that the run before it
  had started run on.
- A child that is left alone (`ABANDON`) runs, though its parent outgrew a limit as it started; there, it gets no task.
- A signal among the post-reset operations is sent; there, these are refused.
- What one request adds to a history is bounded by its parts' limits and that of a gRPC message; there, by 4 MiB in all.
- A cron schedule of `@every` less than nothing is refused; there, it means every second.

Workflow tasks, queries, updates, termination:

- 100 queries may wait for one workflow task; there, 1. The answer of a query has a link to its workflow.
- An update request of more than 2 MiB is refused at once.
- The close event of a run that another one follows is what it is in history; there, clients that do not say that they
  follow runs are shown a continue-as-new.
- A page of a history has so many events as it is asked for; there, so many batches of events.
- An update that came with a reset is rejected like any other; there, whoever asks for it afterwards gets INTERNAL.
- The details of a termination have the limit of payloads, 2 MiB; there, none.
- A result that is too large fails the workflow task for BadCompleteWorkflowExecutionAttributes; there, for the cause
  that is the activities'. A child command without attributes fails the task, too; there, it is an INTERNAL error.
- `run_expiration_time` is not set where a run has no timeout; there, it is the year 1. `auto_reset_points` are never
  set: they belong to versions of workers.
- A closed run has nothing pending; there, it goes on showing the activities that were pending when it closed.

Activities:

- A worker may still answer for an attempt that was running when its activity was reset.
- A path of a field mask that is unknown is refused; there, it is ignored.
- A worker is told the timeouts that an update of options has set; there, those with which the activity was scheduled.
- By its id, a closed activity that stands alone is NOT_FOUND; there, FAILED_PRECONDITION.

Lists:

- `ORDER BY` one attribute is accepted; there, on an SQL database, refused.
- `GROUP BY` in a list is refused; there, it does nothing. So is a filter of activities or Nexus operations by what only
  workflows have.
- A page token of something else is INVALID_ARGUMENT; there, UNKNOWN.
- A custom search attribute's name has 1 to 255 printable characters, and no quotes and backslashes; there, any.
- A list within the value of a KeywordList is refused; there, it is kept and never found.
- `BuildIds`, `TemporalPauseInfo` and `TemporalReportedProblems` are never set by the backend: it keeps no versions, and
  what is paused is told by the description of its workflow.
- `STARTS_WITH` minds upper and lower case, whatever the database.
- A namespace has up to 200 custom search attributes; there, 28 on an SQL database.
- Custom attributes lie in no numbered columns: a namespace shows no `custom_search_attribute_aliases`, and to set them
  is refused: `AddSearchAttributes` and `RemoveSearchAttributes` are how attributes come and go, also for command lines.
- What was answered is in the very next list; there, a moment later.

Nexus:

- A call to an endpoint that is not registered is an operation that failed, unless the
  [configuration](configuration.md) says otherwise (`unknown_endpoint`); there, the workflow task fails for ever.
- An endpoint may have a list of callers, in the metadata of its description: a call from another namespace is an
  operation that failed (UNAUTHORIZED) before a worker sees it; there, the list is kept and does nothing. What is no
  list of names, or has `"*"` among them, is refused when it is written.
- An input of the system endpoint (`__temporal_system`) that a signal with start refuses is an operation that failed;
  there, some of these fail the workflow task for ever.
- A call may name its endpoint by the instance URI (`temporal:` and the endpoint's id in base62); there, by its name.
- A request by HTTP that a browser sends for a web page of another origin (`origin`, `sec-fetch-site`) is refused;
  there, served. So is one that says twice, and differently, what decides something (`nexus-*`, `temporal-*`,
  `content-*`, timeouts), or where its body ends; there, one of the two counts.
- By HTTP, what only a server can say (`temporal-principal-*`, `caller-name`, `caller-type`, `call-initiation`) does not
  reach the handler; there, it does.
- Two endpoints cannot get one name by an update.
- Links, request ids, callbacks and operation tokens are the server's word: headers by which a workflow would replace
  them are not handed on; there, they replace them. The header `temporal-source-namespace` names the caller's namespace
  on every call, also to a URL; there, it is what the caller sets.
- Names of services and operations may hold slashes; there, such a call is NOT_FOUND.
- By HTTP, an endpoint is named by its id, its name or its instance URI; there, by its id. What comes by HTTP has the
  limits of commands (names, tokens, header fields, links); there, only its size has one. A body with a
  content-encoding is refused; there, it is handed on as it is. The address that a call comes from is the handler's
  `x-forwarded-for`; there, it gets none.
- By HTTP, a handler error is told with its message, and a link that cannot travel is left out; there, a handler error
  with a cause is told as the cause alone, unless the caller says that it reads both, and a link that cannot travel is
  an internal error. A call has 10 s, if its caller does not say otherwise; there, a minute.
- A completion by HTTP shows a token that is signed; there, it can be made up. What began before it was told so is the
  operation's start, and never later than now.
- An operation without a workflow that has ended is NOT_FOUND for who completes it again; there, BAD_REQUEST.
- Temporal's JSON API (`/api/...`) is answered 501.
- A call that no worker is there for is not made until one polls, which ends its pause; nobody's absence opens a circuit
  breaker. There, each attempt waits for a worker, times out, and counts as a failure of the destination.
- Calls of endpoints with a URL go only where the [configuration](configuration.md) says, as callbacks by HTTP do, and
  redirects are not followed; there, they go anywhere, and follow. A URL with a user, a query or a fragment, or without
  a host, is refused; there, it is taken, and fails at each call.
- An answer by HTTP of more than 2 MiB fails the operation, and ends a callback; there, it is asked for again for ever.
- Header fields that came with a callback never replace those that say how the operation ended; there, they do.
- A callback by HTTP that waits for a circuit breaker is shown as blocked; there, it is not.
- An update that would have more than 32 callbacks is refused; there, its acceptance fails the workflow task.
- What is blocked by a circuit breaker says whose failures opened it; there, only that it is open.
- From the second time on that a handler took a call and did not answer in time, the failure says what to do about it.
- A cancellation that waits for the start shows when it was asked for; there, when the operation started.
- Who answers a cancellation may do so in the newer failure form; there, only who answers a start may.
- Nexus operations that stand alone need no setting; there, they are off. Their starts may bring completion callbacks
  and links, also to one that runs; there, nobody reads these fields. A policy that is not known is refused; there, it
  is the default. One that was cancelled stays so; there, it can still be terminated. One that is blocked says so;
  there, it says that it is scheduled. A caller that an endpoint's list does not name is refused at the start
  (PERMISSION_DENIED), and nothing is written.

Task queues, workers, namespaces:

- The name of a task queue whose configuration is changed has the limit of names; there, none.
- A rate limit is kept exactly, since a task queue is in one part.
- Tasks leave a queue in the order of their coming, whatever their priority; priorities are kept and shown.
- The polls of a worker that shuts down end at once, and its sticky queue falls back at once; there, a setting.
- A workflow whose callbacks wait is removed only when each was tried; there, at once.
- A namespace's name holds no characters that cannot be printed; there, any.
- A deleted namespace is gone within seconds, without a delay.
- A failure with very many causes is cut, so that every reader can read the history that holds it.
"""


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for service, handlers in SERVICES:
        if service.full_name.startswith("temporal."):
            parts.append(_service(service, set(handlers)))
    parts += [_refused(), _harmless(), OTHERWISE]
    return "\n".join(parts)


def _service(service: ServiceDescriptor, implemented: set[str]) -> str:
    rows = [
        _row(method) for method in sorted(service.methods, key=lambda each: each.name) if method.name in implemented
    ]
    others = sorted(method.name for method in service.methods if method.name not in implemented)
    return "\n".join(
        [
            f"## {service.name}",
            "",
            f"{len(rows)} of {len(service.methods)} calls.",
            "",
            "| call | how far | shown by |",
            "| --- | --- | --- |",
            *rows,
            "",
            "Refused: " + ", ".join(f"`{name}`" for name in others) + ".",
            "",
        ]
    )


def _row(method: MethodDescriptor) -> str:
    missing = [f"`{field}`" for field in sorted(REFUSED.get(method.input_type.name, ()))]
    if method.name in MISSING:
        missing.append(MISSING[method.name])
    how_far = f"partly, without {', '.join(missing)}" if missing else "implemented"
    test = _shown_by(method.name)
    shown = f"[{Path(test).name}](../{test})" if test else "no test names it"
    return f"| `{method.name}` | {how_far} | {shown} |"


def _shown_by(name: str) -> str | None:
    if name in SHOWN_BY:
        return SHOWN_BY[name]
    word = re.compile(rf"\b{name}(Request)?\b")
    counts = {path: len(word.findall(text)) for path, text in _tests().items()}
    most = max(counts.values())
    return min(path for path, count in counts.items() if count == most) if most else None


def _tests() -> dict[str, str]:
    paths = sorted((ROOT / "tests" / "backend").rglob("test_*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _refused() -> str:
    rows = [
        f"| `{message}` | {', '.join(_field(message, each) for each in sorted(REFUSED[message]))} |"
        for message in sorted(REFUSED)
    ]
    head = [
        "## Fields that are refused",
        "",
        "Set, in whatever request, they answer UNIMPLEMENTED with their name.",
        "",
    ]
    return "\n".join([*head, "| message | fields |", "| --- | --- |", *rows, ""])


def _field(message: str, name: str) -> str:
    """A refused field, with the one value that it may have."""
    if f"{message}.{name}" not in ACCEPTED:
        return f"`{name}`"
    value = ACCEPTED[f"{message}.{name}"]
    kind = next(each for each in reachable().values() if each.name == message).fields_by_name[name].enum_type
    shown = value if kind is None else kind.values_by_number[value].name
    return f"`{name}` (but `{shown}`)"


def _harmless() -> str:
    rows = [f"| `{field}` | {HARMLESS[field]} |" for field in sorted(HARMLESS)]
    head = [
        "## Fields that are ignored",
        "",
        "Those without a message wherever they occur; because that harms nobody.",
        "",
    ]
    return "\n".join([*head, "| field | why |", "| --- | --- |", *rows, ""])


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        Path(argument).write_text(document(), encoding="utf-8")
