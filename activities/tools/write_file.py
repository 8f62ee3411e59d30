"""The tool that writes a file of the project, as a whole and in one step."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from activities.tools.files.file_tool import FileTool
from activities.tools.files.outcome import FilePath, tool_errors
from activities.tools.tool import Arguments, ToolContext
from store.files.paths import parse
from workflows.types import Effect


class WriteFileArguments(Arguments):
    """Arguments of write_file."""

    path: FilePath
    content: Annotated[str, Field(description="The whole text of the file.")]


class WriteFile(FileTool[WriteFileArguments]):
    """Makes a file, or replaces its content."""

    name = "write_file"
    description = (
        "Writes a text file in the project's folder, and the folders on the way to it. What the "
        "file held before is replaced as a whole, so send all of its content."
    )
    arguments = WriteFileArguments
    effect = Effect.IDEMPOTENT

    @override
    async def run(self, arguments: WriteFileArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        with tool_errors(arguments.path):
            entry = await self._files.write(
                context.tenant_id,
                context.project_id,
                parse(arguments.path),
                arguments.content.encode(),
            )
        return {"path": entry.path, "size": entry.size}
