"""The tool that reads a file of the project: a piece of its text, or rows of a table."""

from threading import Event
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from activities.tools.files.file_tool import FileTool
from activities.tools.files.outcome import FilePath, tool_errors
from activities.tools.files.slices import text_slice
from activities.tools.files.tables import table_slice
from activities.tools.tool import Arguments, ToolContext
from store.files.folder import Folder
from store.files.paths import Names, parse
from workflows.types import Effect

DEFAULT_LIMIT = 16 * 1024
DEFAULT_ROWS = 100


class ReadFileArguments(Arguments):
    """Arguments of read_file."""

    path: FilePath
    offset: Annotated[
        int,
        Field(
            ge=0,
            le=2**53,
            description="Where to begin: a byte, with `table` a row; 0, or a `next_offset`.",
        ),
    ] = 0
    limit: Annotated[
        int | None,
        Field(ge=1, le=2**53, description="At most so many bytes, with `table` rows."),
    ] = None
    table: Annotated[
        bool, Field(description="For CSV and TSV files: give rows and columns instead of text.")
    ] = False


class ReadFile(FileTool[ReadFileArguments]):
    """Reads text; says of anything else what it is."""

    name = "read_file"
    description = (
        "Reads a text file of the project, up to 12 KiB at once; `next_offset` says where to go on "
        "when `truncated` is true. With `table`, rows of a CSV or TSV file, whose first line is "
        "the header."
    )
    arguments = ReadFileArguments
    effect = Effect.READ

    @override
    async def run(self, arguments: ReadFileArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        with tool_errors(arguments.path):
            names = parse(arguments.path)
            return await self._in_folder(
                context, lambda folder, stop: _read(folder, names, arguments, stop)
            )


def _read(
    folder: Folder, names: Names, arguments: ReadFileArguments, stop: Event
) -> dict[str, Any]:
    file, entry = folder.open(names)
    with file:
        if arguments.table:
            rows = arguments.limit or DEFAULT_ROWS
            return table_slice(file, entry, arguments.offset, rows, stop)
        return text_slice(file, entry, arguments.offset, arguments.limit or DEFAULT_LIMIT)
