"""The tool that shows which files a project has."""

from threading import Event
from typing import Any

from typing_extensions import override

from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.files.file_tool import FileTool
from activities.tools.files.outcome import FolderPath, tool_errors
from activities.tools.tool import Arguments, ToolContext
from store.files.folder import Entry, Folder
from store.files.paths import Names, parse_folder
from workflows.types import Effect

_ROOM = MAX_MODEL_BYTES - 512


class ListFilesArguments(Arguments):
    """Arguments of list_files."""

    path: FolderPath = None


class ListFiles(FileTool[ListFilesArguments]):
    """Paths, sizes and times; no contents."""

    name = "list_files"
    description = (
        "Lists the files in the project's folder, with those in folders beneath, in the order of "
        "their paths. Sizes are in bytes. A long list is cut and says so: name a folder then."
    )
    arguments = ListFilesArguments
    effect = Effect.READ

    @override
    async def run(self, arguments: ListFilesArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        with tool_errors(arguments.path):
            names = parse_folder(arguments.path)
            return await self._in_folder(context, lambda folder, stop: _listed(folder, names, stop))


def _listed(folder: Folder, names: Names, stop: Event) -> dict[str, Any]:
    one = folder.entry(names) if names else None
    found = [one] if one else folder.walk(stop, names)
    items: list[dict[str, Any]] = []
    left = _ROOM
    for entry in found:
        item = _item(entry)
        left -= size(item) + 1
        if left < 0:
            return {"items": items, "truncated": True}
        items.append(item)
    return {"items": items, "truncated": False}


def _item(entry: Entry) -> dict[str, Any]:
    modified = entry.modified.replace(microsecond=0).isoformat()
    return {"path": entry.path, "size": entry.size, "modified": modified}
