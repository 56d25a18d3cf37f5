"""Search attributes: those of a namespace, values at the start and by a workflow's code, what is shown and found."""

import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from temporalio.api.command.v1 import (
    Command,
    ModifyWorkflowPropertiesCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
)
from temporalio.api.common.v1 import Memo, Payload, RetryPolicy, SearchAttributes
from temporalio.api.enums.v1 import CommandType, EventType, IndexedValueType, WorkflowTaskFailedCause
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    GetSearchAttributesRequest,
    ListWorkflowExecutionsRequest,
    RegisterNamespaceRequest,
)

from nexuskit.backend import limits
from tests.backend.test_visibility import eventually
from tests.support.raw import Namespace, refusal
from tests.support.servers import Server
from tests.support.values import complete_workflow, duration, event_names, fail_workflow, payload, value_of

TYPES = {
    "Customer": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Amount": IndexedValueType.INDEXED_VALUE_TYPE_INT,
    "Weight": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Gift": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
    "ShipBy": IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
    "Tags": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    "Note": IndexedValueType.INDEXED_VALUE_TYPE_TEXT,
}
UPSERTED = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
MODIFIED = EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED
TASK_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
VALUES: dict[str, Any] = {
    "Customer": "ada",
    "Amount": 120,
    "Weight": 2.5,
    "Gift": True,
    "ShipBy": "2026-03-04T05:06:07.89Z",
    "Tags": ["big", "red"],
    "Note": "Leave it at the door",
}


@pytest.fixture
async def shop(orders: Namespace, server: Server) -> Namespace:
    """The namespace with custom attributes of every type."""
    await orders.operator.AddSearchAttributes(
        AddSearchAttributesRequest(namespace=orders.name, search_attributes=TYPES)
    )

    async def custom() -> set[str]:
        listed = await orders.operator.ListSearchAttributes(ListSearchAttributesRequest(namespace=orders.name))
        return set(listed.custom_attributes)

    await eventually(custom, lambda found: found >= set(TYPES), server)
    if server.kind == "real":
        # Its parts hear of it one after another; a start that is taken says that they have.
        async def accepted() -> bool:
            try:
                await orders.start("attributes-known", "attributes-known", search_attributes=attributes(Customer="x"))
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.ALREADY_EXISTS
            return True

        await eventually(accepted, bool, server)
    return orders


def attributes(**values: Any) -> SearchAttributes:
    return SearchAttributes(indexed_fields={name: payload(value) for name, value in values.items()})


def upsert(given: SearchAttributes | None) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        upsert_workflow_search_attributes_command_attributes=UpsertWorkflowSearchAttributesCommandAttributes(
            search_attributes=given
        ),
    )


def modify(**memo: Any) -> Command:
    fields = {name: payload(value) for name, value in memo.items()}
    return Command(
        command_type=CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES,
        modify_workflow_properties_command_attributes=ModifyWorkflowPropertiesCommandAttributes(
            upserted_memo=Memo(fields=fields)
        ),
    )


def plain(found: SearchAttributes) -> dict[str, Any]:
    """The attributes, without what the server adds by itself."""
    return {name: value_of(each) for name, each in found.indexed_fields.items() if name != "BuildIds"}


async def shown(namespace: Namespace, workflow_id: str) -> SearchAttributes:
    return (await namespace.describe(workflow_id)).workflow_execution_info.search_attributes


async def found(namespace: Namespace, query: str) -> int:
    return (
        await namespace.service.CountWorkflowExecutions(
            CountWorkflowExecutionsRequest(namespace=namespace.name, query=query)
        )
    ).count


@pytest.mark.usefixtures("embedded_only")  # a real server's limit depends on its database
async def test_a_namespace_has_so_many_attributes_and_no_more(orders: Namespace, unique: Callable[[str], str]) -> None:
    name = unique("many")
    retention = duration(3600)
    await orders.service.RegisterNamespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=retention)
    )

    async def add(names: range) -> None:
        kinds = {f"A{number}": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD for number in names}
        await orders.operator.AddSearchAttributes(AddSearchAttributesRequest(namespace=name, search_attributes=kinds))

    await add(range(limits.CUSTOM_ATTRIBUTES))
    refused = await refusal(add(range(limits.CUSTOM_ATTRIBUTES + 1)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"cannot have more than {limits.CUSTOM_ATTRIBUTES}" in refused.message


async def test_attributes_given_at_the_start_are_shown_with_their_types_and_found(
    shop: Namespace, server: Server, workflow_id: str, queue: str
) -> None:
    await shop.start(workflow_id, queue, search_attributes=attributes(**VALUES))
    described = await shown(shop, workflow_id)
    assert plain(described) == VALUES
    assert {name: each.metadata["type"] for name, each in described.indexed_fields.items()} == {
        "Customer": b"Keyword",
        "Amount": b"Int",
        "Weight": b"Double",
        "Gift": b"Bool",
        "ShipBy": b"Datetime",
        "Tags": b"KeywordList",
        "Note": b"Text",
    }
    mine = f"TaskQueue = '{queue}'"
    await eventually(lambda: found(shop, mine), lambda count: count == 1, server)
    queries = {
        "Customer = 'ada'": 1,
        "Customer != 'ada'": 0,
        "Customer STARTS_WITH 'a'": 1,
        "Customer IN ('bob', 'ada')": 1,
        "Amount = 120": 1,
        "Amount BETWEEN 1 AND 119": 0,
        "Weight > 2.4": 1,
        "Gift = true": 1,
        "Gift = false": 0,
        "ShipBy < '2026-03-04T06:06:07+00:00'": 1,
        "ShipBy > '2026-03-04T06:06:07+00:00'": 0,
        "Tags = 'red'": 1,
        "Tags IN ('blue', 'big')": 1,
        "Tags NOT IN ('big')": 0,
        "Note = 'door'": 1,
        "Note = 'window'": 0,
        "Note IS NOT NULL": 1,
        "Customer IS NULL": 0,
    }
    assert {query: await found(shop, f"{mine} AND {query}") for query in queries} == queries
    (listed,) = (
        await shop.service.ListWorkflowExecutions(
            ListWorkflowExecutionsRequest(namespace=shop.name, query=f"{mine} AND Customer = 'ada'")
        )
    ).executions
    assert plain(listed.search_attributes) == VALUES
    assert listed.search_attributes.indexed_fields["Amount"].metadata["type"] == b"Int"


async def test_a_workflow_changes_its_attributes_and_null_takes_one_away(
    shop: Namespace, server: Server, workflow_id: str, queue: str
) -> None:
    await shop.start(workflow_id, queue, search_attributes=attributes(Customer="ada", Amount=1))
    given = attributes(Amount=2, Tags=["new"])
    given.indexed_fields["Customer"].CopyFrom(Payload(metadata={"encoding": b"binary/null"}))
    await shop.run_workflow_task(queue, upsert(given))
    history = await shop.history(workflow_id)
    assert event_names(history)[-1] == "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"
    event = history[-1].upsert_workflow_search_attributes_event_attributes
    assert event.workflow_task_completed_event_id == 4
    assert value_of(event.search_attributes.indexed_fields["Amount"]) == 2
    assert plain(await shown(shop, workflow_id)) == {"Amount": 2, "Tags": ["new"]}
    mine = f"TaskQueue = '{queue}' AND"
    await eventually(lambda: found(shop, f"{mine} Tags = 'new'"), lambda count: count == 1, server)
    assert await found(shop, f"{mine} Amount = 2 AND Customer IS NULL") == 1
    assert await found(shop, f"{mine} Amount = 1") == 0


async def test_attributes_are_found_after_the_workflow_has_closed(
    shop: Namespace, server: Server, workflow_id: str, queue: str
) -> None:
    await shop.start(workflow_id, queue)
    await shop.run_workflow_task(queue, upsert(attributes(Customer=workflow_id)), complete_workflow())
    query = f"Customer = '{workflow_id}' AND ExecutionStatus = 'Completed'"
    await eventually(lambda: found(shop, query), lambda count: count == 1, server)
    assert await found(shop, f"Customer = '{workflow_id}'") == 1


async def test_a_workflow_changes_its_memo(shop: Namespace, workflow_id: str, queue: str) -> None:
    memo = Memo(fields={"kept": payload("a"), "changed": payload("b"), "gone": payload("c")})
    await shop.start(workflow_id, queue, memo=memo)
    await shop.run_workflow_task(queue, modify(changed="B", gone=None, new=1))
    (event,) = [event for event in await shop.history(workflow_id) if event.event_type == MODIFIED]
    assert set(event.workflow_properties_modified_event_attributes.upserted_memo.fields) == {"changed", "gone", "new"}
    described = (await shop.describe(workflow_id)).workflow_execution_info.memo
    assert {name: value_of(each) for name, each in described.fields.items()} == {"kept": "a", "changed": "B", "new": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Nothing": "x"}, "has no mapping defined for search attribute Nothing"),
        ({"WorkflowId": "x"}, "WorkflowId attribute can't be set in SearchAttributes"),
        ({"Amount": "many"}, "invalid value for search attribute Amount of type Int: "),
        ({"Gift": "yes"}, "invalid value for search attribute Gift of type Bool: "),
        ({"ShipBy": "noon"}, "invalid value for search attribute ShipBy of type Datetime: "),
    ],
)
async def test_attributes_that_cannot_be_are_refused(
    shop: Namespace, workflow_id: str, queue: str, given: dict[str, Any], message: str
) -> None:
    refused = await refusal(shop.start(workflow_id, queue, search_attributes=attributes(**given)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (attributes(Nothing="x"), "has no mapping defined for search attribute Nothing"),
        (attributes(Amount="many"), "invalid value for search attribute Amount of type Int: "),
        (attributes(), "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand."),
        (None, "is not set on UpsertWorkflowSearchAttributesCommand."),
    ],
)
async def test_an_upsert_that_cannot_be_fails_the_workflow_task(
    shop: Namespace, workflow_id: str, queue: str, given: SearchAttributes | None, message: str
) -> None:
    await shop.start(workflow_id, queue)
    task = await shop.poll_workflow_task(queue)
    refused = await refusal(shop.complete_workflow_task(task, upsert(given)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.message
    (event,) = [event for event in await shop.history(workflow_id) if event.event_type == TASK_FAILED]
    cause = event.workflow_task_failed_event_attributes.cause
    assert cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES


def text_of(size: int) -> str:
    """A text whose JSON has this size."""
    return "x" * (size - 2)


async def test_a_value_is_as_large_as_its_limit(shop: Namespace, unique: Callable[[str], str], queue: str) -> None:
    limit = limits.SEARCH_ATTRIBUTE_SIZE
    await shop.start(unique("fits"), queue, search_attributes=attributes(Customer=text_of(limit)))
    refused = await refusal(
        shop.start(unique("large"), queue, search_attributes=attributes(Customer=text_of(limit + 1)))
    )
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"search attribute Customer value size {limit + 1} exceeds size limit {limit}" in refused.message


async def test_an_upsert_over_the_limit_ends_the_workflow(shop: Namespace, workflow_id: str, queue: str) -> None:
    await shop.start(workflow_id, queue)
    task = await shop.poll_workflow_task(queue)
    large = upsert(attributes(Customer=text_of(limits.SEARCH_ATTRIBUTE_SIZE + 1)))
    with contextlib.suppress(grpc.aio.AioRpcError):  # INVALID_ARGUMENT, for one of the two
        await shop.complete_workflow_task(task, large)
    assert event_names([await shop.close_event(workflow_id)]) == ["WORKFLOW_EXECUTION_TERMINATED"]


JSON = {"encoding": b"json/plain"}
SHAPES: dict[str, tuple[str, Payload, bool]] = {
    "a list of keywords": ("Tags", Payload(metadata=JSON, data=b'["big"]'), True),
    "one keyword for a list": ("Tags", Payload(metadata=JSON, data=b'"big"'), False),
    "one keyword": ("Customer", Payload(metadata=JSON, data=b'"ada"'), True),
    "a list of one": ("Customer", Payload(metadata=JSON, data=b'["ada"]'), True),
    "a list of two for one keyword": ("Customer", Payload(metadata=JSON, data=b'["ada", "eve"]'), False),
    "a list with a null": ("Customer", Payload(metadata=JSON, data=b'["ada", null]'), False),
    "a null": ("Customer", Payload(metadata=JSON, data=b"null"), True),
    "a null of another encoding": ("Customer", Payload(metadata={"encoding": b"binary/null"}), True),
    "no encoding": ("Customer", Payload(data=b'"ada"'), False),
    "a null without encoding": ("Customer", Payload(data=b"null"), False),
    "bytes": ("Customer", Payload(metadata={"encoding": b"binary/plain"}, data=b'"ada"'), False),
    "what is not UTF-8": ("Customer", Payload(metadata=JSON, data=b'"\xff"'), True),
    "half a surrogate pair": ("Customer", Payload(metadata=JSON, data=b'"\\ud800"'), True),
    "a whole number": ("Amount", Payload(metadata=JSON, data=b"2"), True),
    "a fraction of nought": ("Amount", Payload(metadata=JSON, data=b"2.0"), False),
    "a time": ("ShipBy", Payload(metadata=JSON, data=b'"2026-03-04T05:06:07Z"'), True),
    "a date": ("ShipBy", Payload(metadata=JSON, data=b'"2026-03-04"'), False),
}


@pytest.mark.parametrize(("name", "value", "fits"), SHAPES.values(), ids=SHAPES.keys())
async def test_a_value_has_the_shape_of_its_attribute(
    shop: Namespace, workflow_id: str, queue: str, name: str, value: Payload, fits: bool
) -> None:
    started = shop.start(workflow_id, queue, search_attributes=SearchAttributes(indexed_fields={name: value}))
    if fits:
        await started
        await shop.terminate(workflow_id)
    else:
        refused = await refusal(started)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.message.startswith(f"invalid value for search attribute {name} of type ")


async def test_an_attribute_that_is_removed_is_not_shown_and_not_found(
    orders: Namespace, server: Server, unique: Callable[[str], str], workflow_id: str, queue: str
) -> None:
    name = unique("Gone").replace("-", "")
    operator, namespace = orders.operator, orders.name
    await operator.AddSearchAttributes(
        AddSearchAttributesRequest(
            namespace=namespace, search_attributes={name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD}
        )
    )

    async def started() -> bool:
        try:
            await orders.start(workflow_id, queue, search_attributes=attributes(**{name: "x"}))
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(started, bool, server)
    await operator.RemoveSearchAttributes(RemoveSearchAttributesRequest(namespace=namespace, search_attributes=[name]))

    async def seen() -> set[str]:
        return set((await shown(orders, workflow_id)).indexed_fields)

    await eventually(seen, lambda names: name not in names, server)
    refused = await refusal(found(orders, f"{name} = 'x'"))
    assert refused.message == f"invalid query: invalid search attribute: {name}"
    listed = await operator.ListSearchAttributes(ListSearchAttributesRequest(namespace=namespace))
    assert name not in listed.custom_attributes


async def test_attributes_of_the_system_are_listed_and_not_to_be_changed(orders: Namespace) -> None:
    operator, namespace = orders.operator, orders.name
    listed = await operator.ListSearchAttributes(ListSearchAttributesRequest(namespace=namespace))
    assert listed.system_attributes["WorkflowId"] == IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    assert listed.system_attributes["CloseTime"] == IndexedValueType.INDEXED_VALUE_TYPE_DATETIME
    refused = await refusal(
        operator.AddSearchAttributes(AddSearchAttributesRequest(namespace=namespace, search_attributes={"RunId": 2}))
    )
    assert refused.message == "Search attribute RunId is reserved by system."
    refused = await refusal(operator.AddSearchAttributes(AddSearchAttributesRequest(namespace=namespace)))
    assert refused.message == "SearchAttributes are not set on request."
    refused = await refusal(
        operator.RemoveSearchAttributes(
            RemoveSearchAttributesRequest(namespace=namespace, search_attributes=["WorkflowId"])
        )
    )
    assert refused.message == "Unable to remove non-custom search attributes: WorkflowId."
    keys = (await orders.service.GetSearchAttributes(GetSearchAttributesRequest())).keys
    assert keys["StartTime"] == IndexedValueType.INDEXED_VALUE_TYPE_DATETIME


async def test_attributes_go_on_in_the_run_that_follows(shop: Namespace, workflow_id: str, queue: str) -> None:
    policy = RetryPolicy(maximum_attempts=2)
    policy.initial_interval.FromMilliseconds(1)
    await shop.start(workflow_id, queue, search_attributes=attributes(Customer="ada"), retry_policy=policy)
    await shop.run_workflow_task(queue, fail_workflow())
    assert (await shop.poll_workflow_task(queue)).attempt == 1
    assert plain(await shown(shop, workflow_id)) == {"Customer": "ada"}
