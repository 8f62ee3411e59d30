"""Everything on one machine: what is started, in which order, and how it ends.

postgres ─▶ roles ─▶ migrations ─┬─▶ edge, worker ─▶ ready
                └──▶ demo data ──┤
temporal · demo model · page ────┘
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from embedded import demo_data, ours, page, postgres, roles, schema, temporal
from embedded.console import Console
from embedded.data_dir import DataDir
from embedded.environment import Environment
from embedded.ports import LOOPBACK, require_free
from embedded.processes import Child, ChildEnded
from embedded.services import Service
from store.settings import Settings

STOP_ORDER = (("edge", "worker"), ("model",), ("temporal",), ("postgres",))


class Stack:
    """One running installation."""

    def __init__(self, settings: Settings, data: DataDir, console: Console) -> None:
        self.environment = Environment.of(settings, data.path)
        self._settings = settings
        self._data = data
        self._console = console
        self._services: dict[str, Service] = {}

    @property
    def runs(self) -> bool:
        """Whether anything has been started."""
        return bool(self._services)

    async def up(self) -> None:
        """Start everything and return once the page is usable.

        Raises:
            CannotStart: a setting stands in the way.
            ChildEnded: something did not come up.
        """
        await postgres.clear_leftover(self._data.path)
        await require_free(self._ports())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_temporal())
                group.create_task(self._start_demo_model())
                group.create_task(self._build_page())
                has_demo_data = group.create_task(self._start_database())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        with self._console.step("edge and worker"):
            await self._start_edge_and_worker(demo_data=has_demo_data.result())
        for service in self._services.values():
            service.keep()

    async def down(self, hurry: asyncio.Event) -> None:
        """Stop everything, the servers last; at once when ``hurry`` is set."""
        for names in STOP_ORDER:
            services = [self._services[name] for name in names if name in self._services]
            await asyncio.gather(*(service.stop(hurry) for service in services))

    def _ports(self) -> dict[str, tuple[str, int]]:
        settings = self._settings
        ports = {
            "EVERTURN_PORT": (settings.host, settings.port),
            "EVERTURN_POSTGRES_PORT": (LOOPBACK, settings.postgres_port),
            "EVERTURN_TEMPORAL_PORT": (LOOPBACK, settings.temporal_port),
            "EVERTURN_TEMPORAL_UI_PORT": (LOOPBACK, settings.temporal_ui_port),
        }
        if settings.metrics_port is not None:
            ports["EVERTURN_METRICS_PORT"] = (settings.host, settings.metrics_port)
            ports["EVERTURN_METRICS_PORT + 1"] = (settings.host, settings.metrics_port + 1)
        return ports

    async def _start(self, name: str, start: Callable[[], Awaitable[Child]]) -> Service:
        service = Service(name, start, self._console.voice("everturn"))
        self._services[name] = service
        await service.start()
        return service

    def _hear(self, name: str, *, aloud: bool) -> Callable[[str], None]:
        log = self._data.log_file(name)
        voice = self._console.voice(name) if aloud else None

        def hear(line: str) -> None:
            log.write(line)
            if voice:
                voice(line)

        return hear

    async def _start_database(self) -> bool:
        server, hear = self.environment.postgres, self._hear("postgres", aloud=False)
        with self._console.step("PostgreSQL"):
            await postgres.initialise(self._data.path, server.keys)
            command = postgres.start_command(
                self._data.path, server.port, pid_file=self._data.pid_file("postgres")
            )
            await self._start(
                "postgres", lambda: postgres.start(command, server, self._data.path, hear)
            )
            await roles.create(server)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._migrate())
            loaded = group.create_task(self._load_demo_data())
        return loaded.result()

    async def _migrate(self) -> None:
        if await schema.is_current(self.environment.postgres.owner_dsn):
            return
        command = ours.migrations(self.environment)
        with self._console.step("database migrated"):
            async with Child(command, self._hear("migrations", aloud=False)) as child:
                await child.require_end()

    async def _load_demo_data(self) -> bool:
        if not self.environment.has_demo:
            return False
        server = self.environment.postgres
        say = self._console.voice("demo")
        try:
            await demo_data.load(
                server.demo_owner_dsn, self._data.path / "demo-data", roles.DEMO_READER, say
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the chat works without
            say(f"no demo data: {error}")
            say("the demo starts without its datasource; the next start tries again")
            return False
        return True

    async def _start_temporal(self) -> None:
        server, hear = self.environment.temporal, self._hear("temporal", aloud=False)
        command = temporal.start_command(
            server, db_file=self._data.temporal_db, pid_file=self._data.pid_file("temporal")
        )
        with self._console.step("Temporal"):
            await self._start("temporal", lambda: temporal.start(command, server, hear))

    async def _start_demo_model(self) -> None:
        if not self.environment.runs_demo_model:
            return
        command = ours.demo_model(self.environment, self._data.pid_file("model"))
        hear = self._hear("model", aloud=True)
        port = self.environment.demo_model_port
        with self._console.step("demo model"):
            await self._start("model", lambda: ours.start_demo_model(command, port, hear))

    async def _build_page(self) -> None:
        if not page.exists():
            self._console.say("  there is no page in frontend/ yet; the edge serves its API alone")
            return
        if "page_dir" in self._settings.model_fields_set or page.is_built():
            return
        self._console.say("  … building the page, which takes a while the first time")
        try:
            with self._console.step("page built"):
                await page.build(self._data.path, self._hear("page", aloud=True))
        except ChildEnded as error:
            if not (page.DIST / "index.html").exists():
                raise
            self._console.say(f"  {error.name} failed; the page stays as it was built before")

    async def _start_edge_and_worker(self, *, demo_data: bool) -> None:
        async def start(name: str, module: str, pid_file: Path) -> Service:
            command = ours.process(self.environment, name, module, pid_file, demo_data=demo_data)
            hear = self._hear(name, aloud=True)
            return await self._start(name, lambda: ours.start(command, hear))

        worker = await start("worker", "worker", self._data.pid_file("worker"))
        edge = await start("edge", "api", self._data.pid_file("edge"))
        await ours.until_usable(self.environment, edge.child, worker.child)
