"""User messages become turns: stored first, then started; the same for the socket and for REST."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from api.turnstile import Turnstile
from store import turns
from store.database import Database
from store.errors import Invalid, TooLarge
from store.fault_points import reach
from store.limits import MAX_CLIENT_MESSAGE_ID_CHARS, MAX_MESSAGE_BYTES
from store.on_busy import CHOICES
from store.places import Places
from store.principal import Principal
from store.runs import TurnRuns
from store.tables import Turn
from workflows.types import TurnRef

# One tenant's burst shares this process with everybody, step by step: its accepts would only wait
# for each other at its rooms and places in the database, each with a connection of the pool.
ACCEPTS_PER_TENANT = 1
# Two hundred at once take about half of this on two cores.
ACCEPT_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a sender is told: the message is stored and its turn is certain to run."""

    message_id: UUID
    turn_id: UUID
    conversation_id: UUID
    status: str
    duplicate: bool


class Turns:
    """Accepts messages and stops turns.

    Args:
        runs: Starts and cancels the workflows.
    """

    def __init__(self, database: Database, runs: TurnRuns) -> None:
        self._database = database
        self._runs = runs
        self._places = Places(database, runs)
        self._turnstile = Turnstile(ACCEPTS_PER_TENANT, ACCEPT_WAIT_SECONDS)

    async def submit(
        self,
        principal: Principal,
        conversation_id: UUID,
        content: str,
        client_message_id: str | None,
        *,
        project_id: UUID | None = None,
        on_busy: str | None = None,
    ) -> Receipt:
        """Store a message and start its turn, or let it wait, or join the one that runs.

        Raises:
            Refusal: See `store.turns.accept`; `Invalid` and `TooLarge` for the text itself;
                `Unavailable` when too many of the tenant's messages come at once.
        """
        check_content(content)
        if client_message_id is not None:
            check_client_message_id(client_message_id)
        if on_busy is not None and on_busy not in CHOICES:
            raise Invalid(f"on_busy is one of {', '.join(CHOICES)}.")
        async with (
            self._turnstile.passed(principal.tenant_id),
            self._database.tenant_session(principal.tenant_id) as session,
        ):
            accepted = await turns.accept(
                session,
                principal,
                conversation_id,
                content,
                client_message_id,
                project_id=project_id,
                on_busy=on_busy,
            )
        reach("K1")
        for turn_id in accepted.interrupted:
            await self._runs.cancel(turn_id)
        started = await self._start(accepted.start)
        status = "running" if str(accepted.turn_id) in started else accepted.status
        reach("K2")
        return Receipt(
            accepted.message_id,
            accepted.turn_id,
            accepted.conversation_id,
            status,
            accepted.duplicate,
        )

    async def stop(self, principal: Principal, turn_id: UUID) -> Turn:
        """Stop a turn; one that has ended stays as it is.

        Raises:
            Refusal: See `store.turns.request_stop`.
        """
        async with self._database.tenant_session(principal.tenant_id) as session:
            request = await turns.request_stop(session, principal, turn_id)
        if request.cancel:
            await self._runs.cancel(turn_id)
        await self._start(request.start)
        return request.turn

    async def abandon(self, principal: Principal, turn_ids: Sequence[UUID]) -> None:
        """Stop the runs of turns whose rows are gone, and let others have their places."""
        for turn_id in turn_ids:
            await self._runs.cancel(turn_id)
        if turn_ids:
            await self._places.give(principal.tenant_id)

    async def _start(self, refs: Sequence[TurnRef]) -> set[str]:
        """Start turns; the ids of those that run now. Housekeeping starts the others later."""
        return {ref.turn_id for ref in refs if await self._runs.start(ref)}


def check_content(content: str) -> None:
    """Hold a message's text against the limits.

    Raises:
        Invalid: Empty, or with a NUL.
        TooLarge: Over `MAX_MESSAGE_BYTES`.
    """
    if not content.strip():
        raise Invalid("content is empty.")
    if "\0" in content:
        raise Invalid("content holds a NUL character, which cannot be stored.")
    try:
        size = len(content.encode())
    except UnicodeEncodeError:
        raise Invalid("content holds half a surrogate pair, which is no character.") from None
    if size > MAX_MESSAGE_BYTES:
        raise TooLarge(f"content has {size} bytes; at most {MAX_MESSAGE_BYTES} are allowed.")


def check_client_message_id(client_message_id: str) -> None:
    """Hold a client's message id against its limits.

    Raises:
        Invalid: Empty, too long, or not printable.
    """
    length = len(client_message_id)
    if not 1 <= length <= MAX_CLIENT_MESSAGE_ID_CHARS or not client_message_id.isprintable():
        raise Invalid(
            f"client_message_id has 1 to {MAX_CLIENT_MESSAGE_ID_CHARS} printable characters."
        )
