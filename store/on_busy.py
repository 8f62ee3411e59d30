"""What a message does while a turn of its conversation is open, and who may choose it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from store.access import Role
from store.errors import Forbidden

OnBusy = Literal["enqueue", "reject", "interrupt", "steer"]
CHOICES: tuple[OnBusy, ...] = ("enqueue", "reject", "interrupt", "steer")


def _each_once(value: list[OnBusy]) -> list[OnBusy]:
    if len(set(value)) != len(value):
        raise ValueError("names a choice twice")
    return value


def _owner_interrupts(value: dict[str, list[OnBusy]]) -> dict[str, list[OnBusy]]:
    if "interrupt" not in value.get("owner", ["interrupt"]):
        raise ValueError("an owner may always interrupt: list `interrupt` for owner")
    return value


_Allowed = Annotated[
    list[OnBusy], Field(min_length=1, max_length=len(CHOICES)), AfterValidator(_each_once)
]
OnBusyByRole = Annotated[
    dict[Literal["editor", "owner"], _Allowed], AfterValidator(_owner_interrupts)
]
"""Per role what its messages may do; the first is what they do when they do not say."""


def choose_on_busy(
    sent: str | None, role: Role, default: OnBusy, by_role: Mapping[Any, Sequence[OnBusy]]
) -> str:
    """What a message of somebody in `role` does.

    Args:
        sent: His own choice, if he made one.
        default: The project's, for roles that `by_role` does not name.

    Raises:
        Forbidden: The project does not leave this choice to the role.
    """
    allowed = by_role.get(role.wire)
    if allowed is None:
        return sent or default
    if sent is not None and sent not in allowed:
        raise Forbidden(
            f"An {role.wire} of this project may not send with on_busy {sent},"
            f" only with {' or '.join(allowed)}."
        )
    return sent or allowed[0]
