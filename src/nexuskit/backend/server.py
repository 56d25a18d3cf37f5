"""One backend, running: the database opened, the parts put together, the doors open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import nexuskit
from nexuskit.backend import transfers
from nexuskit.backend.clock import Clock, RealClock
from nexuskit.backend.configuration import Outbound
from nexuskit.backend.draw import Draw
from nexuskit.backend.engine import Engine
from nexuskit.backend.errors import StartError, StatusError
from nexuskit.backend.frontend.grpc_server import start_grpc
from nexuskit.backend.frontend.http_server import HttpServer, bind
from nexuskit.backend.frontend.system_operations import start_system_operation
from nexuskit.backend.history.callback import Callback
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.matching.workers import Workers
from nexuskit.backend.namespaces import Namespace, Namespaces, check_name
from nexuskit.backend.nexus.callbacks import Callbacks
from nexuskit.backend.nexus.calls import Calls
from nexuskit.backend.nexus.cancellations import Cancellations
from nexuskit.backend.nexus.completions import Completions
from nexuskit.backend.nexus.endpoints import Endpoints
from nexuskit.backend.nexus.http_calls import HttpCalls
from nexuskit.backend.nexus.lanes import Lanes
from nexuskit.backend.nexus.operations import Operations
from nexuskit.backend.nexus.outward import Outward
from nexuskit.backend.nexus.tasks import NexusTasks
from nexuskit.backend.removal import Remover
from nexuskit.backend.services import Services
from nexuskit.backend.settings import DEFAULTS, Limits
from nexuskit.backend.store.database import MEMORY, Database, open_database
from nexuskit.backend.store.reader import read_everything
from nexuskit.backend.task_queues import TaskQueues

if TYPE_CHECKING:
    import os
    from typing import Any

    from temporalio.client import Client

    from nexuskit.backend.rpc.server import Server as GrpcServer
    from nexuskit.protocol.outbound import Resolver


log = logging.getLogger("nexuskit.backend")

T = TypeVar("T")

DEFAULT_NAMESPACE = "default"
"""Exists always, as programs written for Temporal expect."""
GRACE_S = 0.5
"""Seconds that requests under way are given when the backend stops; long polls are ended at once."""

_PUT_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"


class Backend:
    """A running backend.

    Attributes:
        address: host and port of its gRPC door, for `temporalio.client.Client.connect`.
        http_address: URL of its HTTP door.
        database: the path of its file, or ":memory:".
    """

    def __init__(
        self,
        services: Services,
        grpc_server: GrpcServer,
        http_server: HttpServer,
        host: str,
        port: int,
        database: str,
    ) -> None:
        self.address = f"{_shown(host)}:{port}"
        self.http_address = _url(host, http_server.port)
        self.database = database
        self._services = services
        self._grpc_server = grpc_server
        self._http_server = http_server

    @property
    def namespaces(self) -> list[str]:
        """The names of its namespaces, in order."""
        return [namespace.name for namespace in self._services.namespaces.all()]

    async def client(self, namespace: str = DEFAULT_NAMESPACE, **options: Any) -> Client:
        """A connected client of a namespace.

        Args:
            namespace: its name.
            options: what else `temporalio.client.Client.connect` takes.
        """
        # Here and not above: it takes longer to import than most of the backend, which does not need it.
        from temporalio.client import Client

        return await Client.connect(self.address, namespace=namespace, **options)

    async def add_namespace(self, name: str) -> None:
        """Make a namespace, unless there is one of that name.

        Raises:
            StartError: no namespace may be called that.
        """
        await _add_namespace(self._services, name)

    async def stop(self) -> None:
        """End long polls, answer what is under way, write what is there, and close the database."""
        self._services.engine.end_polls()
        await self._grpc_server.stop(GRACE_S)
        await self._http_server.stop()
        self._services.remover.close()
        await self._services.engine.close()
        await self._services.outward.close()


@contextlib.asynccontextmanager
async def running(
    db: str | os.PathLike[str],
    *,
    namespaces: Iterable[str],
    host: str,
    port: int,
    http_port: int,
    clock: Clock | None = None,
    draw: Draw | None = None,
    limits: Limits = DEFAULTS,
    outbound: Outbound | None = None,
    resolver: Resolver | None = None,
) -> AsyncGenerator[Backend]:
    """A backend, for as long as the context lasts; see `nexuskit.backend.serve`."""
    backend = await start(
        db,
        namespaces=namespaces,
        host=host,
        port=port,
        http_port=http_port,
        clock=clock,
        draw=draw,
        limits=limits,
        outbound=outbound,
        resolver=resolver,
    )
    try:
        yield backend
    finally:
        await _whatever_comes(backend.stop())


async def start(
    db: str | os.PathLike[str],
    *,
    namespaces: Iterable[str],
    host: str,
    port: int,
    http_port: int,
    clock: Clock | None = None,
    draw: Draw | None = None,
    limits: Limits = DEFAULTS,
    outbound: Outbound | None = None,
    resolver: Resolver | None = None,
) -> Backend:
    """Open the database, go on with what is in it, and open the doors. Whoever calls this calls `Backend.stop`."""
    database = await _whatever_comes(asyncio.to_thread(open_database, db), undo=Database.close)
    clock, draw = clock or RealClock(), draw or Draw()
    engine = Engine(database, clock, draw, limits)
    try:
        # First, because calls that go out as soon as the rows are read say where to call back.
        listener = bind(host, http_port, "HTTP")
        try:
            base = _url(_reachable(host), listener.getsockname()[1])
            outward = await Outward.open(outbound or Outbound(), base, limits, resolver)
            services = await _load(engine, clock, draw, outward)
            for name in (DEFAULT_NAMESPACE, *namespaces):
                await _add_namespace(services, name)
            shown = MEMORY if database.directory else str(Path(database.path))
            grpc_listener = bind(host, port, "gRPC")
            try:
                bound = grpc_listener.getsockname()[1]
                grpc_server = await start_grpc(services, grpc_listener)
            except BaseException:
                grpc_listener.close()
                raise
        except BaseException:
            listener.close()
            raise
        http_server = HttpServer(services, listener, shown)
        await http_server.start()
    except BaseException:
        await _whatever_comes(engine.close())
        raise
    log.debug("serving %s on %s:%d", shown, host, bound)
    return Backend(services, grpc_server, http_server, host, bound, shown)


async def _load(engine: Engine, clock: Clock, draw: Draw, outward: Outward) -> Services:
    everything = await engine.store.reader.run(read_everything)
    namespaces = Namespaces(engine.store, engine.limits)
    namespaces.load(everything.namespaces)
    task_queues = TaskQueues(engine.store, engine.tasks, engine.limits)
    task_queues.load(everything.task_queues)
    endpoints = Endpoints(engine.store, namespaces, engine.limits)
    endpoints.load(everything.endpoints)
    meta = dict(everything.meta)
    fresh = {"cluster_id": draw.uuid().encode(), "callback_key": draw.key()}
    missing = {key: value for key, value in fresh.items() if key not in meta}
    if missing:
        group, ticket = engine.store.group()
        for key, value in missing.items():
            group.add(_PUT_META, (key, value))
        await ticket.wait()
        meta |= missing
    nexus_tasks = NexusTasks(engine.tasks, clock, draw)
    engine.endpoints = endpoints.routes
    engine.namespaces = namespaces.ids
    engine.catalogues = namespaces.by_id
    lanes = Lanes(engine.agenda, clock, engine.limits)
    http_calls = HttpCalls(outward, clock, engine.limits)
    calls = Calls(namespaces, endpoints, nexus_tasks, http_calls, outward, engine.limits)
    completions = Completions(engine, meta["callback_key"])
    remover = Remover(engine, namespaces, task_queues)
    services = Services(
        version=nexuskit.__version__,
        cluster_id=meta["cluster_id"].decode(),
        started=clock.now(),
        clock=clock,
        draw=draw,
        engine=engine,
        namespaces=namespaces,
        endpoints=endpoints,
        nexus_tasks=nexus_tasks,
        lanes=lanes,
        calls=calls,
        outward=outward,
        completions=completions,
        task_queues=task_queues,
        workers=Workers(clock, engine.limits),
        remover=remover,
    )
    nexus_effects = {
        NexusOperation.kind: Operations(
            engine, calls, lanes, completions, functools.partial(start_system_operation, services)
        ).call,
        NexusCancellation.kind: Cancellations(engine, calls, lanes).call,
        Callback.kind: Callbacks(engine, namespaces, lanes, completions, outward).deliver,
    }
    engine.agenda.effects |= nexus_effects
    engine.agenda.at_once |= dict.fromkeys(nexus_effects, engine.limits.NEXUS_LOADS_IN_FLIGHT)
    engine.agenda.effects |= transfers.effects(engine)
    engine.resume(everything.entries, everything.last_execution)
    remover.wake()
    return services


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _url(host: str, port: int) -> str:
    return f"http://{_shown(host)}:{port}"


def _reachable(host: str) -> str:
    """An address at which a program of this machine reaches what listens on that one."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def _add_namespace(services: Services, name: str) -> None:
    if services.namespaces.has(name):
        return
    try:
        check_name(name, services.limits)
    except StatusError as error:
        raise StartError(error.message) from error
    made = Namespace(
        id=services.draw.uuid(),
        name=name,
        retention=services.limits.RETENTION_DEFAULT,
        created=services.clock.now(),
    )
    await services.namespaces.add(made).wait()


async def _whatever_comes(work: Coroutine[Any, Any, T], undo: Callable[[T], None] | None = None) -> T:
    """Do all of it, even if we are cancelled meanwhile, once or more often; then be cancelled.

    `undo` takes back what the work made, which nobody will ask for in that case.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if task.exception() is None and undo is not None:
        undo(task.result())
    raise cancelled
