"""Keeps the files folder tidy, in every process that has it: edges, and workers with file tools.

What writers that died have left is gone within seconds; so are folders of deleted projects and
results of deleted conversations, which the database keeps a list of (``file_removals``).
"""

import asyncio
from datetime import timedelta

import structlog

from store.files.project_files import ProjectFiles

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=10)


async def keep_tidy(files: ProjectFiles) -> None:
    """Sweep at once, and then again and again, until cancelled."""
    while True:
        try:
            swept = await files.sweep()
            if swept:
                log.info("files_swept", files=swept)
            while await files.carry_out_removals():
                pass
        except Exception as exc:  # noqa: BLE001 -- disk or database are away: next time
            log.warning("files_not_swept", error=type(exc).__name__)
        await asyncio.sleep(EVERY.total_seconds())
