"""Composition root of an edge process."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from api import metrics, page, problems
from api.auth import is_https
from api.bootstrap import bootstrap
from api.decisions import Decisions
from api.headers import SecureHeaders
from api.interventions import Interventions
from api.lookups import Lookups
from api.passwords import Passwords
from api.rooms import Rooms
from api.routes import (
    admin,
    auth,
    conversations,
    datasources,
    decisions,
    files,
    health,
    mcp_servers,
    members,
    projects,
    search,
    tool_executions,
    tool_policies,
    turns,
)
from api.state import Edge
from api.throttle import Throttle
from api.turns import Turns
from api.turnstile import Turnstile
from api.watch import Watch
from api.ws import chat
from store.bus import Signer
from store.buses import new_listener, new_publisher
from store.database import Database
from store.files.janitor import keep_tidy
from store.files.project_files import ProjectFiles
from store.mcp.operator import Commands
from store.mcp.surroundings import Surroundings
from store.runs import TurnRuns
from store.secrets import KeyRing
from store.settings import Settings
from store.shapes import TemporalLinks
from store.temporal import connect
from store.tool_runs import ToolRuns

log = structlog.get_logger(__name__)

# What is on its way counts in no quota yet, so one person's uploads take turns.
UPLOADS_PER_USER = 6
UPLOAD_WAIT_SECONDS = 60.0

GC_THRESHOLDS = (10_000, 20, 20)

ROUTERS = (
    auth, projects, members, datasources, mcp_servers, conversations, turns, search,
    tool_policies, admin, health, decisions, tool_executions, files,
)  # fmt: skip


async def compose(settings: Settings, stack: AsyncExitStack) -> Edge:
    """Open everything an edge needs; `stack` closes it."""
    keys = KeyRing([key.get_secret_value() for key in settings.secret_keys])
    signer = Signer(keys)
    url = settings.database_url.get_secret_value()
    publisher = new_publisher(settings, signer)
    stack.push_async_callback(publisher.close)
    await publisher.start()
    database = Database(
        url,
        pool_size=settings.database_pool_size,
        application_name="edge",
        announce=publisher.announce,
    )
    stack.push_async_callback(database.close)
    passwords = Passwords()
    await bootstrap(database, keys, passwords, settings)
    listener = new_listener(settings)
    await listener.start()
    stack.push_async_callback(listener.close)
    lookups = Lookups(database)
    # Rooms read by themselves, whoever asks; half of the pool is left for those who do.
    lane = database.lane(max(1, settings.database_pool_size // 2))
    rooms = Rooms(database, lane, lookups, listener, signer, replayed_events=settings.replay_events)
    await rooms.start()
    stack.push_async_callback(rooms.close)
    if settings.metrics_port is not None:
        metrics.serve(rooms, database, settings.host, settings.metrics_port)
    project_files = ProjectFiles(database, settings.files_root)
    stack.callback(project_files.close)
    stack.push_async_callback(_end, asyncio.create_task(keep_tidy(project_files)))
    # Lazy: an edge starts, accepts messages and says so while Temporal is away.
    client = await connect(settings, lazy=True)
    runs = TurnRuns(client)
    tool_runs = ToolRuns(await connect(settings, lazy=True, beside=client))
    links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)
    watch = Watch(database, tool_runs, links)
    stack.push_async_callback(watch.close)
    watch.start()
    return Edge(
        settings=settings,
        database=database,
        lookups=lookups,
        keys=keys,
        publisher=publisher,
        rooms=rooms,
        turns=Turns(database, runs),
        decisions=Decisions(database, runs, links),
        runs=runs,
        passwords=passwords,
        throttle=Throttle(),
        links=links,
        tool_runs=tool_runs,
        interventions=Interventions(database, runs, links),
        files=project_files,
        uploads=Turnstile(UPLOADS_PER_USER, UPLOAD_WAIT_SECONDS),
        mcp=Surroundings(tuple(settings.private_hosts), Commands.read(settings.mcp_stdio)),
    )


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def create_app(settings: Settings) -> FastAPI:
    """What one edge process serves by request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.edge = await compose(settings, stack)
            gc.collect()
            gc.freeze()
            # Ten thousand sockets are a million objects: to look at all of them stops the process
            # for half a second, and finds little, so it is done seldom.
            gc.set_threshold(*GC_THRESHOLDS)
            log.info("edge_ready", host=settings.host, port=settings.port)
            yield

    app = FastAPI(
        title="Everturn",
        lifespan=lifespan,
        # The description of the API is not for strangers; docs/protocol.md is its page.
        openapi_url="/api/openapi.json" if settings.demo else None,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    page.mount(app, settings.page_dir)
    app.add_middleware(SecureHeaders, https=is_https(settings))
    return app


def with_sockets(app: FastAPI) -> ASGIApp:
    """The application, and its sockets, which are led past what is for requests.

    A dozen layers of it would stand on each socket's stack for as long as it lives, 8 KiB in all.
    """

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/ws/chat":
            scope["app"] = app
            await chat(WebSocket(scope, receive, send))
        else:
            await app(scope, receive, send)

    return front
