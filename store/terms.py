"""Terms of a question: who may approve a tool call, how many must, for how long it stands."""

from dataclasses import dataclass
from datetime import timedelta

from workflows.policies import LONGEST_WAIT_FOR_PEOPLE

# Who may approve, least first.
APPROVERS = {"editor": 0, "owner": 1, "admin": 2}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule asks of those who approve.

    Attributes:
        approvers: Least role: ``editor``, ``owner`` or ``admin``.
        approvals: How many people must approve the same arguments.
        not_asker: Whoever wrote in the turn does not count.
        expires_minutes: After which an open question counts as denied; None for the longest wait.
    """

    approvers: str = "editor"
    approvals: int = 1
    not_asker: bool = False
    expires_minutes: int | None = None

    @property
    def patience(self) -> timedelta:
        """For how long a question stands."""
        if self.expires_minutes is None:
            return LONGEST_WAIT_FOR_PEOPLE
        return timedelta(minutes=self.expires_minutes)

    def with_all_of(self, other: "Terms") -> "Terms":
        """What satisfies both."""
        limits = [m for m in (self.expires_minutes, other.expires_minutes) if m is not None]
        return Terms(
            max(self.approvers, other.approvers, key=APPROVERS.__getitem__),
            max(self.approvals, other.approvals),
            self.not_asker or other.not_asker,
            min(limits) if limits else None,
        )

    def satisfies(self, other: "Terms") -> bool:
        """Whether an approval under these terms is one under `other`'s, time aside."""
        return (
            APPROVERS[self.approvers] >= APPROVERS[other.approvers]
            and self.approvals >= other.approvals
            and self.not_asker >= other.not_asker
        )
