"""Logs: one line an event, to stderr, with ids and sizes and never content or secrets."""

import logging
import sys

import structlog

# Their DEBUG lines carry headers, parameters and rows; ours say what an operator needs.
QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "asyncpg", "sqlalchemy", "asyncio")
# Say what was received, word for word: what a stranger sent, or a secret of somebody.
MUTE = ("mcp",)


def configure_logging(level: str) -> None:
    """Send all logs of the process to stderr.

    Args:
        level: Least level of our own lines; chatty libraries stay at WARNING.
    """
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=True)
        if sys.stderr.isatty()
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
