"""Why a project file cannot be read or written; each leaf is a refusal the edge can answer with.

store.errors.Refusal
├── PathRefused    refused      a guard of ours said no; `rule` names it
├── NotFound       not_found    no such file in this project
├── TooLarge       too_large    a file or the project would pass its limit
├── Conflict       conflict     a folder stands where a file should, or the other way round
└── Unavailable    unavailable  the disk, not the request, is in the way
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import Invalid, Unavailable


class PathRefused(Invalid):
    """A path that may not be used.

    Args:
        rule: Which one said no; stable, for the audit log.
        detail: For people and the model.
    """

    code = "refused"

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"Refused by the rule {rule!r}: {detail}")
        self.rule = rule


@contextmanager
def disk() -> Iterator[None]:
    """Say that the disk is in the way, where it is.

    Raises:
        Unavailable: In the place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = "The server's disk is full; nothing was changed."
        else:
            said = "The project's files cannot be reached now. Try again shortly."
        raise Unavailable(said, retry_after=5) from error
