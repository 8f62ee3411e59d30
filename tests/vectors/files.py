"""Where vectors are, and how they are written: an entry a line, so that changes are small diffs."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def recordings() -> list[str]:
    """Every recorded scenario."""
    return sorted(path.stem for path in (FOLDER / "recorded").glob("*.json"))


def names() -> list[str]:
    """Every vector."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def recorded(name: str) -> Any:
    """A recorded stream."""
    return json.loads((FOLDER / "recorded" / f"{name}.json").read_text())


def vector(name: str) -> Any:
    """A stream with its cases."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON with one line for each entry of its lists and tables."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text_of(value))


def text_of(value: dict[str, Any]) -> str:
    """The file's text."""
    lines = []
    for key, item in value.items():
        match item:
            case list() if item:
                body = ",\n".join(f"  {_line(entry)}" for entry in item)
                lines.append(f" {_line(key)}: [\n{body}\n ]")
            case _:
                lines.append(f" {_line(key)}: {_line(item)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
