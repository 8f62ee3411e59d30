"""What all tools on a project's files have in common."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any, TypeVar

from activities.tools.tool import Arguments, Tool, ToolContext
from store.files.folder import Folder
from store.files.project_files import ProjectFiles
from workflows.types import Queue

A = TypeVar("A", bound=Arguments)


class FileTool(Tool[A]):
    """A tool on the files of the project it is called in."""

    queue = Queue.TOOLS_FILES
    deadline = timedelta(seconds=10)

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    async def _in_folder(
        self, context: ToolContext, work: Callable[[Folder, Event], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do blocking work on the project's folder, which ends soon after the event is set."""
        folder = self._files.folder(context.tenant_id, context.project_id)
        return await self._files.run(lambda stop: work(folder, stop))
