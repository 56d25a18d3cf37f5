"""Calls that remove: a workflow execution, or a whole namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest, DeleteNamespaceResponse
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, DeleteWorkflowExecutionResponse

from nexuskit.backend.errors import Code, StatusError, invalid_argument
from nexuskit.backend.frontend import describe
from nexuskit.backend.namespaces import DELETED_SUFFIX_LENGTH

if TYPE_CHECKING:
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def delete_workflow(
    services: Services, _: Call, request: DeleteWorkflowExecutionRequest
) -> DeleteWorkflowExecutionResponse:
    """DeleteWorkflowExecution: a running one is terminated first, and callbacks are delivered before it goes."""
    resident = await describe.find(services, request.namespace, request.workflow_execution)
    services.remover.delete(resident)
    await services.engine.store.group()[1].wait()
    return DeleteWorkflowExecutionResponse()


async def delete_namespace(services: Services, _: Call, request: DeleteNamespaceRequest) -> DeleteNamespaceResponse:
    """DeleteNamespace: its name is free at once; what is in it is removed bit by bit."""
    if request.namespace and request.namespace_id:
        raise invalid_argument("Only one of namespace name or Id should be set on request.")
    namespaces = services.namespaces
    namespace = (
        namespaces.get_by_id(request.namespace_id) if request.namespace_id else namespaces.get(request.namespace)
    )
    for endpoint in services.endpoints.all():
        if endpoint.spec.target.worker.namespace == namespace.name:
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"cannot delete a namespace that is a target of a Nexus endpoint {endpoint.spec.name}",
            )
    if namespace.state != NamespaceState.NAMESPACE_STATE_DELETED:
        length = DELETED_SUFFIX_LENGTH
        while namespaces.has(name := f"{namespace.name}-deleted-{namespace.id[:length]}"):
            length += 1
        state = int(NamespaceState.NAMESPACE_STATE_DELETED)
        namespace = msgspec.structs.replace(namespace, name=name, state=state)
        await namespaces.change(namespace).wait()
        services.remover.wake()
    return DeleteNamespaceResponse(deleted_namespace=namespace.name)
