"""``python -m embedded.demo_model``: the demo model as a process."""

import argparse

import uvicorn

from embedded.demo_model.server import application

STOP_WITHIN_SECONDS = 2  # answers under way are cut; whoever asked will ask again


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(
        prog="python -m embedded.demo_model",
        description="Scripted, OpenAI-compatible demo model. It is not a language model.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument(
        "--tokens-per-second", type=float, default=60.0, help="pace of an answer; 0: at once"
    )
    options = parser.parse_args()
    uvicorn.run(
        application(max(0.0, options.tokens_per_second)),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=STOP_WITHIN_SECONDS,
    )


if __name__ == "__main__":
    main()
