"""What the store of files says no to, in a tool's terms."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field

from activities.tools.tool import (
    ToolFailed,
    ToolNotFound,
    ToolRefused,
    ToolTooLarge,
    ToolUnavailable,
)
from store.errors import Conflict, NotFound, Refusal, TooLarge, Unavailable
from store.files.errors import PathRefused

MAX_PATH_CHARS = 1024

FilePath = Annotated[
    str,
    Field(
        max_length=MAX_PATH_CHARS,
        description="Path of a file in the project's folder, like `reports/march.csv`.",
    ),
]
FolderPath = Annotated[
    str | None,
    Field(
        max_length=MAX_PATH_CHARS,
        description="Only beneath this folder, like `reports`. Leave it out for all.",
    ),
]


@contextmanager
def tool_errors(path: str | None) -> Iterator[None]:
    """Say what went wrong with a path.

    Raises:
        ToolError: In the place of a `Refusal`.
    """
    try:
        yield
    except NotFound as error:
        raise ToolNotFound(
            f"The project has no file or folder {path!r}. Call list_files to see what there is."
        ) from error
    except PathRefused as error:
        raise ToolRefused(error.detail) from error
    except TooLarge as error:
        raise ToolTooLarge(error.detail) from error
    except Conflict as error:
        raise ToolFailed(f"{error.detail} Choose another path.") from error
    except Unavailable as error:
        raise ToolUnavailable(error.detail) from error
    except Refusal as error:
        raise ToolFailed(error.detail) from error
