"""Every limit of the backend: a name, its unit, and why that number. Temporal's default where Temporal has one.

Sizes are bytes, times are nanoseconds.
"""

from __future__ import annotations

from nexuskit.backend.times import HOUR, MILLISECOND, MINUTE, SECOND

# --- what a request may carry (Temporal: limit.blobSize.error, limit.maxIDLength, ...)
PAYLOAD_SIZE = 2 * 1024 * 1024
"""An input, result, details or failure; Temporal's `limit.blobSize.error`."""
PAYLOAD_WARN_SIZE = 512 * 1024
"""A larger one is logged, and taken; Temporal's `limit.blobSize.warn`."""
MEMO_SIZE = 2 * 1024 * 1024
"""A workflow's memo; Temporal's `limit.memoSize.error`."""
ID_LENGTH = 1_000
"""Bytes of an id or name (UTF-8); Temporal's `limit.maxIDLength`."""
GRPC_MESSAGE_SIZE = 4 * 1024 * 1024
"""One gRPC message that comes in; gRPC's and Temporal's default. What goes out is as large as what it is made of."""
GRPC_METADATA_SIZE = 64 * 1024
"""A call's header fields, each with the 32 bytes that HTTP/2 adds (RFC 9113, section 6.5.2)."""
GRPC_CALLS_AT_ONCE = 100_000
"""Calls of one connection that are not answered. Beyond, clients keep them until there is room; long polls count, so
that a small number would let polls keep back the calls that they wait for.
"""
FAILURE_SIZE = 4 * 1024
"""An activity's kept last failure is cut to this; Temporal's `limit.mutableStateActivityFailureSize.error`."""
FAILURE_SIZE_LARGE = 512 * 1024
"""What a failure over `PAYLOAD_SIZE` is cut to; Temporal's `limit.blobSize.warn`."""
FAIRNESS_KEY_LENGTH = 64
"""Bytes of a priority's fairness key; fixed in Temporal."""
FAILURE_CAUSES = 50
"""Causes behind a failure that are kept: protobuf reads 100 levels, and a failure is given more on its way."""
USER_METADATA_SUMMARY_SIZE = 400
"""Temporal's `limit.userMetadataSummarySize`."""
USER_METADATA_DETAILS_SIZE = 20_000
"""Temporal's `limit.userMetadataDetailsSize`."""

SEARCH_ATTRIBUTES = 100
"""Search attributes in one request; Temporal's `frontend.searchAttributesNumberOfKeysLimit`."""
SEARCH_ATTRIBUTE_SIZE = 2 * 1024
"""The value of one, as it is encoded; Temporal's `frontend.searchAttributesSizeOfValueLimit`."""
SEARCH_ATTRIBUTES_SIZE = 40 * 1024
"""All of one run; Temporal's `frontend.searchAttributesTotalSizeLimit`."""

# --- what one execution may hold
HISTORY_EVENTS = 51_200
"""Events of one run before it is terminated; Temporal's `limit.historyCount.error`."""
HISTORY_SIZE = 50 * 1024 * 1024
"""Bytes of one run's events; Temporal's `limit.historySize.error`."""
PENDING_SIZE = 8 * 1024 * 1024
"""Bytes of a run without its history: all that is pending, its memo and such; Temporal's
`limit.mutableStateSize.error`.
"""
SUGGEST_CONTINUE_AS_NEW_EVENTS = 4_096
"""From here on workflow tasks suggest to continue as new; Temporal's `limit.historyCount.suggestContinueAsNew`."""
SUGGEST_CONTINUE_AS_NEW_SIZE = 4 * 1024 * 1024
"""The same by bytes; Temporal's `limit.historySize.suggestContinueAsNew`."""
PENDING_ACTIVITIES = 2_000
"""Temporal's `limit.numPendingActivities.error`."""
PENDING_CHILDREN = 2_000
"""Temporal's `limit.numPendingChildExecutions.error`."""
PENDING_SIGNALS = 2_000
"""Signals to other workflows that are on their way; Temporal's `limit.numPendingSignals.error`."""
PENDING_CANCEL_REQUESTS = 2_000
"""Cancel requests to other workflows that are on their way; Temporal's `limit.numPendingCancelRequests.error`."""
SIGNALS = 10_000
"""Signals that one run takes; Temporal's `history.maximumSignalsPerExecution`."""
PENDING_NEXUS_OPERATIONS = 2_000
"""In flight in one run. Temporal's default path stops at 30; a caller that fans out needs more, and rows here are
small.
"""
BUFFERED_EVENTS = 100
"""Events that wait for one workflow task; Temporal's `history.maximumBufferedEventsBatch`."""
BUFFERED_EVENTS_SIZE = 2 * 1024 * 1024
"""Their bytes in all; Temporal's `history.maximumBufferedEventsSizeInBytes`."""
ATTACHED_REQUESTS = 2_000
"""Start requests that were attached to one run, which was there already."""
UPDATES_IN_FLIGHT = 10
"""Updates of one run that are admitted and not completed; Temporal's `history.maxInFlightUpdates`."""
UPDATES_IN_FLIGHT_SIZE = 20 * 1024 * 1024
"""Bytes of their requests in all; Temporal's `history.maxInFlightUpdatePayloads`."""
UPDATES = 2_000
"""Updates of one run in all; Temporal's `history.maxTotalUpdates`."""
SUGGEST_CONTINUE_AS_NEW_UPDATES = 1_800
"""From here on workflow tasks suggest to continue as new: 0.9 of `UPDATES`, as Temporal's
`history.maxTotalUpdates.suggestContinueAsNewThreshold`.
"""
DISCARDED_EVENTS = 10
"""A speculative workflow task that showed more new events than this is kept, even if it did nothing, so that they are
not shown again and again; Temporal's `history.discardSpeculativeWorkflowTaskMaximumEventsCount`.
"""
BUFFERED_QUERIES = 100
"""Queries that wait for one workflow task. Temporal's `history.MaxBufferedQueryCount` is 1, so that two clients that
ask a starting workflow get in each other's way; nothing here makes it scarce.
"""
BUFFERED_QUERIES_SIZE = 16 * 1024 * 1024
"""Bytes of all of them: they come in one message."""
CALLBACKS = 2_000
"""Completion callbacks of one run; Temporal's `system.maxCallbacksPerWorkflow`, kept at its CHASM default."""
UPDATE_CALLBACKS = 32
"""Completion callbacks of one update; Temporal's `system.maxCallbacksPerUpdateID`."""
LINKS_PER_REQUEST = 10
"""Temporal's `frontend.maxlinksPerRequest`."""
LINKS = 2_000
"""Links of one activity that stands alone, from all requests; Temporal's `chasm.maxLinksPerComponent`."""
LINK_SIZE = 4_000
"""Bytes of one link; Temporal's `frontend.linkMaxSize`."""

# --- times
CHAIN_INTERVAL = 1 * SECOND
"""From the start of one run of a chain to the next at least; Temporal's `history.workflowIdReuseMinimalInterval`."""
WORKFLOW_TASK_TIMEOUT = 10 * SECOND
"""A workflow task's start-to-close timeout where the starter names none; Temporal's
`history.defaultWorkflowTaskTimeout`.
"""
WORKFLOW_TASK_TIMEOUT_MAX = 120 * SECOND
"""A longer one is cut to this; Temporal's `limit.maxWorkflowTaskStartToCloseTimeout`."""
LONG_POLL = 60 * SECOND
"""How long a poll for a task waits before it answers empty; Temporal's `matching.longPollExpirationInterval`."""
WORKFLOW_TASK_KEPT_ALIVE = 30 * MINUTE
"""How long a worker may go on with a workflow task that brings no commands; `history.workflowTaskHeartbeatTimeout`."""
SPECULATIVE_TASK_WAITS = 5 * SECOND
"""A speculative workflow task that nobody takes for so long becomes a normal one; Temporal's
`SpeculativeWorkflowTaskScheduleToStartTimeout`.
"""
QUERY_TIMEOUT = 30 * SECOND
"""A query is given up then where the client names no deadline."""
QUERY_POLLED_WITHIN = 20 * SECOND
"""A query of a queue that nobody polled for so long is told so; Temporal's `matching.queryPollerUnavailableWindow`."""
QUERY_MARGIN = 1 * SECOND
"""It is told so long before the client gives up; `returnEmptyTaskTimeBudget` there."""
STICKY_POLLED_WITHIN = 10 * SECOND
"""A sticky queue that nobody polled for so long is not waited for; `stickyPollerUnavailableWindow` there."""
POLLED_QUEUES = 10_000
"""Queues of which it is remembered when they were last polled; beyond that, those not polled lately are forgotten."""
POLLER_REMEMBERED = 300 * SECOND
"""How long a poller is shown after its last poll; five minutes there too."""
POLLERS_SEEN = 1_000
"""Pollers that are shown of one queue, the newest; `pollerHistoryInitMaxSize` there."""
TASKS_PER_SECOND = 100_000.0
"""A task queue's rate limit that is none; `defaultTaskDispatchRPS` there."""
WORKERS_LISTED = 10_000
"""Workers whose heartbeats are kept, a few KB each; a million there, spread over many machines."""
WORKERS_LISTED_SIZE = 64 * 1024 * 1024
"""Bytes of all of them; those heard of longest ago are forgotten first."""
WORKER_REMEMBERED = 300 * SECOND
"""How long a worker is listed after its last heartbeat; `matching.workerRegistryEntryTTL`."""
WORKER_HEARTBEAT_SIZE = 64 * 1024
"""A worker's heartbeat; SDKs send about a KB."""
WORKER_PAGE_SIZE = 1_000
"""Workers in a page at most: a heartbeat is about a KB, and a page one gRPC message."""
WORKER_QUERY_SIZE = 10_000
"""Bytes of a filter of workers."""
CONFIGURED_QUEUES = 10_000
"""Task queues with a rate limit of their own, about a KB each, all in memory."""
WORKERS_ENDED = 10_000
"""Workers that are remembered to have shut down; `shutdownWorkersCacheMaxSize` there."""
HISTORY_LONG_POLL = 20 * SECOND
"""How long a poll for new history events waits; Temporal's `history.longPollExpirationInterval`."""
POLL_MARGIN = 500 * MILLISECOND
"""A poll answers this long before the client's deadline, so that the empty answer still arrives."""
ACTIVITY_RETRY_INTERVAL = 1 * SECOND
"""Initial interval where the retry policy names none; Temporal's `history.defaultActivityRetryPolicy`."""
ACTIVITY_RETRY_COEFFICIENT = 2.0
"""Backoff coefficient of the same policy."""
ACTIVITY_RETRY_INTERVAL_FACTOR = 100
"""Maximum interval of the same policy, as a multiple of its initial interval."""

# --- Nexus (Temporal: component.nexusoperations.*, component.callbacks.*)
NEXUS_REQUEST_TIMEOUT = 10 * SECOND
"""One attempt at a handler or a callback; `component.nexusoperations.request.timeout`, `callback.request.timeout`."""
NEXUS_REQUEST_TIMEOUT_MIN = 1_500 * MILLISECOND
"""With less time left an attempt is not made: it is a timeout; `limit.request.timeout.min`."""
NEXUS_REQUEST_TIMEOUT_MAX = 60 * SECOND
"""A caller by HTTP that says how long it waits gets its answer within this; as long as a real server's frontend waits
for its matching service.
"""
NEXUS_CALLS_IN_FLIGHT = 200
"""Calls of one kind that one caller namespace has under way to one endpoint; the others wait in line. Twice the Nexus
tasks that an SDK's worker takes at once; Temporal's `history.outboundQueue.groupLimiter.concurrency` is 100.
"""
OUTBOUND_IN_FLIGHT = 500
"""Requests by HTTP that are under way to all URLs together, each with a connection of its own: half of the files that
a process may open by default on Linux. The others wait, for half of the time that they may take.
"""
NEXUS_POLLED_WITHIN = 10 * SECOND
"""A task queue that nobody polled for so long has no worker: calls of it wait until one polls. As long as a call may
take: a worker that has all hands full polls again within that time.
"""
NEXUS_TOO_SLOW_FROM = 2
"""From so many attempts on that a handler took and did not answer in time, the operation says what is to be done."""
BREAKER_FAILURES = 5
"""Failures in a row that leave a destination's circuit breaker closed; the default of Temporal's
`history.outboundQueue.circuitBreakerSettings`.
"""
BREAKER_PAUSE = 60 * SECOND
"""How long a breaker stays open; `Timeout` of the same setting."""
BREAKERS = 10_000
"""Breakers that remember failures, a few KB each; beyond, the oldest of those on which nothing waits are forgotten."""
NEXUS_RETRY_INTERVAL = 1 * SECOND
"""First pause after a retryable failure, doubled each time; `component.nexusoperations.retryPolicy.initialInterval`."""
NEXUS_RETRY_INTERVAL_MAX = 1 * HOUR
"""Longest pause; `component.nexusoperations.retryPolicy.maxInterval`."""
NEXUS_TOKEN_SIZE = 4_096
"""An operation token; `limit.operation.token.length`."""
NEXUS_HEADERS_SIZE = 8_192
"""All headers of a call, names and values; `limit.header.size`."""
NEXUS_NAME_LENGTH = 1_000
"""A service or operation name; `limit.service.name.length`, `limit.operation.name.length`."""
NEXUS_REASON_LENGTH = 1_000
"""Why an operation that stands alone is cancelled or terminated; `nexusoperation.limit.reasonLength`."""
ENDPOINT_NAME_LENGTH = 200
"""`limit.endpointNameLength`."""
ENDPOINT_DESCRIPTION_SIZE = 20_000
"""`limit.endpointDescriptionSize`."""
ENDPOINT_URL_LENGTH = 4 * 1024
"""The URL of an endpoint's external target; `limit.endpointExternalURLMaxLength`."""
ENDPOINT_PAGE_SIZE = 100
"""Endpoints in a page where the request names no size; `limit.endpointListDefaultPageSize`."""
ENDPOINT_PAGE_SIZE_MAX = 1_000
"""`limit.endpointListMaxPageSize`."""
CALLBACK_URL_LENGTH = 1_000
"""`frontend.callbackURLMaxLength`."""
CALLBACK_HEADERS_SIZE = 8_192
"""`frontend.callbackHeaderMaxLength`."""

UNKNOWN_ENDPOINT = "fail_operation"
"""What a call to an endpoint that is not registered does: "fail_operation", which a workflow can catch, or "fail_task",
as the real server does: the workflow task fails, and is tried again until there is such an endpoint.
"""

# --- namespaces
RETENTION_MIN = 1 * HOUR
"""Shorter retention is refused, as by the real server."""
RETENTION_DEFAULT = 72 * HOUR
"""For namespaces that `serve` makes by itself."""
NAMESPACE_PAGE_SIZE = 100
"""Namespaces in a page where the request names no size."""

REMOVAL_RUNS = 50
"""Runs that one commit group removes at most, so that who waits for the group hardly notices."""
REMOVAL_ROWS = 400
"""Rows of events that one commit group removes at most."""
REMOVAL_SIZE = 2 * 1024 * 1024
"""Their bytes."""
REMOVAL_PAUSE = 50 * MILLISECOND
"""Between two such groups: others write meanwhile."""
REMOVAL_WAITS = 1 * SECOND
"""A run that is deleted and waits for something is looked at again then."""

# --- lists
LIST_PAGE_SIZE = 1_000
"""Executions in a page, at most and where the request names no size; Temporal's `frontend.visibilityMaxPageSize`."""
LIST_PAGE_BYTES = 1024 * 1024
"""Bytes after which a page ends: memos may be large, and a page must fit into one gRPC message."""
LIST_WORK = 20_000_000
"""Instructions of SQLite's machine that one list or count may take, about ten for a row that is read: some hundred
thousand rows, or half a second. A filter that needs more is refused rather than let the disk be busy with it."""
LIST_WORK_FIRST = 50_000
"""The same for a first try, in the order of the list, where an index could be read instead."""
RESET_PIECE_SIZE = 64 * 1024
"""Bytes of a long history that a reset reads and copies at once, before it lets others work."""
FILTER_LENGTH = 64 * 1024
"""Characters of a filter."""
FILTER_CONDITIONS = 500
"""Conditions of a filter: SQLite takes expressions up to 1,000 deep."""
FILTER_DEPTH = 50
"""Parentheses and NOTs within each other in a filter."""
FILTER_VALUES = 2_000
"""Values of a filter, those in lists counted one by one."""
FILTER_STREAMS = 500
"""Places of an index that one list reads side by side: values of a list, times statuses."""
CUSTOM_ATTRIBUTES = 200
"""Custom search attributes of one namespace. Temporal has 28 on SQL databases, and more elsewhere."""

# --- the backend's own
CACHED_EXECUTIONS = 2_000
"""Executions kept in memory, least recently used out first; about 5 KB each without their events and payloads."""
CACHED_SIZE = 256 * 1024 * 1024
"""Bytes of their events and payloads, likewise."""
CACHED_EVENTS_SIZE = 256 * 1024
"""Newest events kept in memory for one cached execution, so that a workflow task seldom reads the disk."""
HISTORY_PAGE_EVENTS = 1_000
"""Events in a page of history where the request names no size."""
HISTORY_PAGE_SIZE = 1024 * 1024
"""Bytes after which a page of history ends, well under one gRPC message even with one payload of the largest size."""
IDS_PAGE = 2_000
"""Workflow ids read at once while start-up learns which ran: a few milliseconds of the loop."""
FIRES_IN_FLIGHT = 64
"""Due timers worked on at once: enough to fill a commit group, few enough not to starve requests."""
TRANSFERS_IN_FLIGHT = 16
"""What runs do to each other (start, report, signal, cancel) worked on at once: half a millisecond each, and a parent
may have thousands of children."""
NEXUS_LOADS_IN_FLIGHT = 64
"""Nexus calls and callbacks that are looked up at once, to see where they go: after a start all are ready together."""
HTTP_REQUEST_TIME = 90 * SECOND
"""From the head of a request by HTTP to its answer: what a handler may take, and half a minute for a slow line."""
HTTP_REQUESTS = 1_000
"""Requests by HTTP under way; others are told to come again. They wait for workers, who seldom work at more than some
hundred at once.
"""
HTTP_BODIES_SIZE = 128 * 1024 * 1024
"""Bytes of the bodies of requests by HTTP under way; others are told to come again. Each is in memory three times on
its way: as it came, in the task, and in the answer to the worker's poll.
"""
HTTP_CONNECTIONS = 5_000
"""Connections by HTTP, a few KB each, or 64 KiB for one whose header does not end; whoever comes beyond is answered 503
and no more.
"""
MESSAGE_LENGTH = 800
"""Characters of an error's message that are sent: twice, of up to four bytes each, within gRPC's 8 KiB of headers."""
BATCH_SIZE = 256 * 1024
"""Events are written together up to this size, so that a page of history need not hold more than it should."""
FAULT_PAUSE = 1 * SECOND
"""After a fault of the disk or of ours, what was to be done is tried again then."""
DEADLINE_MAX_S = 100 * 365 * 24 * 3600.0
"""A client's deadline further away than this (seconds) is none: gRPC says "never" by a very large number."""
