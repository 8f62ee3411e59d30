"""Results too large for the model: a preview for it, and all of it as a file of the project.

The model reads the file as it reads any other, by `read_file`, from where it likes.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from activities.tools.bounds import (
    FULL_RESULT,
    MAX_FILE_BYTES,
    MAX_MODEL_BYTES,
    MAX_PREVIEW_BYTES,
    MAX_STORED_BYTES,
    shown,
    shrink,
    size,
)
from store.errors import Refusal
from store.files.paths import text_of
from store.files.project_files import ProjectFiles

log = structlog.get_logger(__name__)

FOLDER = "results"
WITHIN = timedelta(seconds=5)
_READ_IT = "This is a preview. read_file gives the whole result piece by piece, search_files finds."


@dataclass(frozen=True, slots=True)
class Bounded:
    """A result as it is stored, as rooms and the model are shown it, and where all of it is."""

    stored: dict[str, Any]
    preview: dict[str, Any]
    file: str | None = None


class LargeResults:
    """Bounds results.

    Args:
        files: Where the large ones are kept.
    """

    def __init__(self, files: ProjectFiles) -> None:
        self._files = files

    async def bound(
        self, result: dict[str, Any], tenant_id: UUID, project_id: UUID, name: str
    ) -> Bounded:
        """Bound a result; one that the model could not be shown whole is kept as a file.

        Args:
            name: The file's, without its ending; the same for each attempt of a call.
        """
        if size(result) <= MAX_MODEL_BYTES:
            return Bounded(result, result)
        handle = await self._kept(result, tenant_id, project_id, (FOLDER, f"{name}.json"))
        whole = {**result, FULL_RESULT: handle}
        stored = shown(whole, MAX_STORED_BYTES)
        return Bounded(stored, shown(stored, MAX_PREVIEW_BYTES), handle.get("path"))

    async def _kept(
        self, result: dict[str, Any], tenant_id: UUID, project_id: UUID, names: tuple[str, str]
    ) -> dict[str, Any]:
        content = lines(shrink(result, MAX_FILE_BYTES))
        try:
            async with asyncio.timeout(WITHIN.total_seconds()):
                # A preview is left of one that a loss of power takes.
                await self._files.write(tenant_id, project_id, names, content, durable=False)
        except Refusal as refusal:
            return {"path": None, "note": f"Only this preview was kept: {refusal.detail}"}
        except Exception as exc:  # noqa: BLE001 -- the call itself has succeeded
            log.warning("result_not_kept", error=type(exc).__name__)
            return {"path": None, "note": "Only this preview was kept: no file could be written."}
        return {"path": text_of(names), "size": len(content), "note": _READ_IT}


def lines(result: dict[str, Any]) -> bytes:
    """A result as JSON with a line for each item of its lists, so that lines can be searched."""
    parts = []
    for key, value in result.items():
        if isinstance(value, list) and value:
            text = b"[\n" + b",\n".join(orjson.dumps(item) for item in value) + b"\n]"
        else:
            text = orjson.dumps(value)
        parts.append(orjson.dumps(key) + b": " + text)
    return b"{" + b",\n".join(parts) + b"}\n"
