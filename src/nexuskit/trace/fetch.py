"""Reads histories and follows their links from namespace to namespace: the part of a trace that talks to servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

from temporalio.api.operatorservice.v1 import ListNexusEndpointsRequest
from temporalio.client import Client
from temporalio.service import RPCError

from nexuskit.trace.fold import fold
from nexuskit.trace.model import ChildWorkflow, Handler, NexusCall, Node, Ref, Step, Unreadable, Workflow
from nexuskit.trace.pending import add_pending

Connect: TypeAlias = Callable[[str], Awaitable[Client]]
"""Answers with a client for a namespace; raises `LookupError`, `OSError` or `RuntimeError` if there is none."""

MAX_DEPTH = 32
"""Links followed in a row. Deeper than any sane design; ends a chain of services that call each other in a circle."""

RPC_TIMEOUT = timedelta(seconds=10)
"""For one request: one namespace that hangs must not keep the rest of the tree from the reader."""

MAX_READS = 16
"""Histories read at once: to explain a workflow with thousands of calls must not flood its server."""


async def trace(connect: Connect, namespace: str, workflow_id: str, *, run_id: str | None = None) -> Node:
    """The tree of one workflow and of everything that it called, as it is now.

    Nothing that cannot be read is an error here: it is an `Unreadable` in its place in the tree, the root included.

    Args:
        connect: Asked once for each namespace that a link leads to.
        namespace: Where the workflow runs.
        workflow_id: Its id.
        run_id: One of its runs; the newest if None.
    """
    link = Ref(namespace=namespace, kind="workflow", id=workflow_id, run_id=run_id or "")
    return await _Reader(connect).read(link, path=())


class _Reader:
    """Reads one tree. Clients and endpoints are kept, so that a tree of many calls asks for each of them once."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: dict[str, asyncio.Task[Client]] = {}
        self._endpoints: dict[tuple[str, str], asyncio.Task[Handler | None]] = {}
        self._reads = asyncio.Semaphore(MAX_READS)

    async def read(self, link: Ref, path: tuple[Ref, ...]) -> Node:
        """The workflow behind a link, and all that lies below it; `path` is how we came here."""
        if link.kind != "workflow":
            return Unreadable(link=link, reason=f"{_a(link.kind)} has no history to follow")
        if link in path:
            return Unreadable(link=link, reason="shown further up: the calls go in a circle")
        if len(path) >= MAX_DEPTH:
            return Unreadable(link=link, reason=f"not followed: {MAX_DEPTH} links deep")
        try:
            client = await self._client(link.namespace)
        except (LookupError, OSError, RuntimeError) as error:
            return Unreadable(link=link, reason=str(error) or type(error).__name__)
        try:
            async with self._reads:
                workflow = await _read_workflow(client, link)
        except RPCError as error:
            return Unreadable(link=link, reason=f"{error.status.name}: {error.message}")
        except ValueError as error:
            return Unreadable(link=link, reason=str(error))
        below = (*path, link)
        steps = await asyncio.gather(*(self._follow(step, link.namespace, below) for step in workflow.steps))
        next_run = await self.read(workflow.next_link, below) if workflow.next_link else None
        return replace(workflow, steps=tuple(steps), next_run=next_run)

    async def _follow(self, step: Step, namespace: str, path: tuple[Ref, ...]) -> Step:
        if isinstance(step, NexusCall):
            handler = await self._handler(namespace, step.endpoint)
            target = await self.read(step.links[0], path) if step.links else None
            return replace(step, handler=handler, target=target)
        if isinstance(step, ChildWorkflow) and step.link.run_id:
            return replace(step, target=await self.read(step.link, path))
        return step

    async def _client(self, namespace: str) -> Client:
        if namespace not in self._clients:
            self._clients[namespace] = asyncio.ensure_future(self._connect(namespace))
        return await self._clients[namespace]

    async def _handler(self, namespace: str, endpoint: str) -> Handler | None:
        key = (namespace, endpoint)
        if key not in self._endpoints:
            self._endpoints[key] = asyncio.ensure_future(self._read_endpoint(namespace, endpoint))
        return await self._endpoints[key]

    async def _read_endpoint(self, namespace: str, endpoint: str) -> Handler | None:
        client = await self._client(namespace)
        try:
            found = await client.operator_service.list_nexus_endpoints(
                ListNexusEndpointsRequest(name=endpoint), timeout=RPC_TIMEOUT
            )
        except RPCError:
            return None  # the registry is for operators: a trace without it is still a trace
        for each in found.endpoints:
            target = each.spec.target
            if target.HasField("worker"):
                return Handler(namespace=target.worker.namespace, task_queue=target.worker.task_queue)
            if target.HasField("external"):
                return Handler(url=target.external.url)
        return None


async def _read_workflow(client: Client, link: Ref) -> Workflow:
    # Described first: it settles which run is read, and a step that closes in between is closed in the history.
    newest = client.get_workflow_handle(link.id, run_id=link.run_id or None)
    description = (await newest.describe(rpc_timeout=RPC_TIMEOUT)).raw_description
    run_id = description.workflow_execution_info.execution.run_id
    history = client.get_workflow_handle(link.id, run_id=run_id).fetch_history_events(rpc_timeout=RPC_TIMEOUT)
    events = [event async for event in history]
    return add_pending(fold(events, namespace=link.namespace, workflow_id=link.id, run_id=run_id), description)


def _a(kind: str) -> str:
    return f"an {kind}" if kind.startswith("a") else f"a {kind.replace('_', ' ')}"
