"""One tenant, one project, one conversation, and `generate_reply` to answer in it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import select, update
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from typing_extensions import override

from activities.model import OpenAIModel
from activities.providers.client import Client
from activities.tools.registry import Registry
from activities.tools.tool import Arguments, Tool, ToolContext
from store import conversations, people, projects, rooms, tenants, turns
from store.bus import Signer
from store.database import Database
from store.postgres_bus import PostgresPublisher
from store.principal import Principal
from store.secrets import KeyRing
from store.settings import Settings
from store.tables import Message, Tenant, ToolExecution, Turn
from tests.model_server import ModelServer
from workflows.types import Effect, Queue, StepInput, StepResult, TurnRef, TurnStatus

INSTALLATION_KEY = "sk-CANARY-installation-0123456789"
TENANT_KEY = "sk-tenants-own-0123456789"


class LookUpArguments(Arguments):
    name: str = ""


class LookUp(Tool[LookUpArguments]):
    name: ClassVar[str] = "look_up"
    description: ClassVar[str] = "Looks a name up."
    arguments = LookUpArguments
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = Queue.TOOLS_HTTP
    deadline: ClassVar[timedelta] = timedelta(seconds=7)

    @override
    async def run(self, arguments: LookUpArguments, context: ToolContext) -> dict[str, Any]:
        return {}


class NotedPublisher(PostgresPublisher):
    """Sends as ever, and keeps what was sent."""

    def __init__(self, url: str, signer: Signer) -> None:
        super().__init__(url, signer)
        self.frames: list[bytes] = []

    @override
    async def publish(self, channel: str, body: bytes) -> None:
        self.frames.append(body)
        await super().publish(channel, body)


@dataclass
class Office:
    database: Database
    server: ModelServer
    keys: KeyRing
    settings: Settings
    publisher: NotedPublisher
    model: OpenAIModel
    principal: Principal
    project_id: UUID
    conversation_id: UUID

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, server: ModelServer) -> AsyncIterator["Office"]:
        keys = KeyRing(["c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0="])
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        settings.openai_api_key = SecretStr(INSTALLATION_KEY)
        settings.openai_base_url, settings.openai_model = server.url, "stub"
        settings.demo_model_url, settings.private_hosts = "", ["127.0.0.1", "::1"]
        client = Client(settings)
        url = database.engine.url.render_as_string(hide_password=False)
        publisher = NotedPublisher(url, Signer(keys))
        tenant_id, domain = uuid4(), f"t{uuid4().hex[:10]}.test"
        async with database.tenant_session(tenant_id) as session:
            await tenants.add(session, tenant_id, domain, domain.split(".")[0], [domain])
            limits = {"messages_per_minute": 100_000}
            await session.execute(update(Tenant).values(limits=limits))
            user = await people.add(session, tenant_id, f"ada@{domain}", "Ada", "member")
            project = await projects.add(session, tenant_id, user.id, "Shop")
            principal = Principal(tenant_id, user.id, user.email, user.name, user.role, False)
            conversation = await conversations.create(session, principal, project.id, "Title")
        model = OpenAIModel(
            client=client, database=database, publisher=publisher, registry=Registry([LookUp()]),
            keys=keys, settings=settings,
        )  # fmt: skip
        try:
            yield cls(
                database, server, keys, settings, publisher, model, principal, project.id,
                conversation.id,
            )  # fmt: skip
        finally:
            await client.close()
            await publisher.close()

    async def ask(self, content: str) -> TurnRef:
        """Accept a message; its turn, ready to run."""
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            accepted = await turns.accept(
                session, self.principal, self.conversation_id, content, None
            )
            ref = await turns.ref_of(session, accepted.turn_id)
        assert ref is not None
        return ref

    async def reply(self, turn: TurnRef, *, step: int = 1, attempt: int = 1) -> StepResult:
        """One attempt of one step, as a worker would make it."""
        return await self.attempt(attempt).run(self.model.generate_reply, StepInput(turn, step))

    async def fails(self, turn: TurnRef, *, attempt: int = 1, step: int = 1) -> ApplicationError:
        try:
            await self.reply(turn, attempt=attempt, step=step)
        except ApplicationError as error:
            return error
        raise AssertionError("it answered")

    @staticmethod
    def attempt(number: int = 1) -> ActivityEnvironment:
        env = ActivityEnvironment()
        env.info = dataclasses.replace(env.info, attempt=number)
        return env

    async def messages(self, turn: TurnRef) -> Sequence[Message]:
        """What the model has said in a turn."""
        async with self.database.tenant_session(turn.tenant_id) as session:
            return (
                await session.scalars(
                    select(Message)
                    .where(Message.turn_id == UUID(turn.turn_id), Message.role == "assistant")
                    .order_by(Message.position)
                )
            ).all()

    async def message(self, turn: TurnRef) -> Message:
        (only,) = await self.messages(turn)
        return only

    async def executions(self, turn: TurnRef) -> Sequence[ToolExecution]:
        async with self.database.tenant_session(turn.tenant_id) as session:
            return (
                await session.scalars(
                    select(ToolExecution)
                    .where(ToolExecution.turn_id == UUID(turn.turn_id))
                    .order_by(ToolExecution.position)
                )
            ).all()

    async def turn(self, turn: TurnRef) -> Turn:
        async with self.database.tenant_session(turn.tenant_id) as session:
            return await session.get_one(Turn, UUID(turn.turn_id))

    async def statuses(self) -> list[dict[str, Any]]:
        """What the room was told of its turns."""
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            events = await rooms.read(session, self.project_id, 0, 1000)
        return [event.data for event in events if event.type == "turn_status"]

    async def finish(self, turn: TurnRef, status: TurnStatus, code: str = "") -> None:
        async with self.database.tenant_session(turn.tenant_id) as session:
            await turns.finish(session, UUID(turn.turn_id), status, code)

    async def set_model(
        self,
        *,
        url: str | None = None,
        key: str | bytes | None = None,
        model: str | None = None,
        kind: str = "chat_completions",
    ) -> None:
        """Give the tenant a model of its own; bytes are stored as they are."""
        tenant_id = self.principal.tenant_id
        sealed = self.keys.encrypt(key, tenant_id) if isinstance(key, str) else key
        async with self.database.tenant_session(tenant_id) as session:
            await session.execute(
                update(Tenant).values(
                    ai_api_url=url, ai_api_key=sealed, ai_api_model=model, ai_api_kind=kind
                )
            )


@dataclass
class Wire:
    """What a server sends, byte for byte, and what it was sent."""

    url: str = ""
    requests: list[bytes] = dataclasses.field(default_factory=list)
    closed: int = 0


@asynccontextmanager
async def wire(
    *parts: bytes | float, kind: str = "text/event-stream", status: str = "200 OK", more: str = ""
) -> AsyncIterator[Wire]:
    """A server that answers everything with `parts`; a number is a pause in seconds."""
    seen = Wire()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            length = int(asked.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            seen.requests.append(asked + await reader.readexactly(length))
            head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\r\n"
            writer.write(head.encode())
            for part in parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await asyncio.sleep(part)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            seen.closed += 1
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield seen
    finally:
        server.close()
