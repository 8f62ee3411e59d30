"""Bounds of tool output: what is stored, what rooms show, what the model reads.

A result that is too large is cut where it is longest, and says ``truncated: true``.
"""

from typing import Any

import orjson

MAX_STORED_BYTES = 1024 * 1024
MAX_PREVIEW_BYTES = 32 * 1024
MAX_MODEL_BYTES = 16 * 1024
MAX_FILE_BYTES = 5 * 1024 * 1024  # of a result that is kept as a file of the project
# In a result that was too large for the model: where all of it is, or why it is nowhere.
FULL_RESULT = "full_result"
CUT_MARK = "… [cut]"
_GUIDE = ("page", "next", "note")


def size(value: Any) -> int:
    """Bytes of a value as JSON."""
    return len(orjson.dumps(value))


def shrink(value: Any, budget: int) -> Any:
    """`value` cut to about `budget` bytes of JSON; the same object if it fits.

    Lists keep their head, texts their beginning; whatever is longest is cut first. An object that
    was cut gets ``truncated: true``.
    """
    if size(value) <= budget:
        return value
    if isinstance(value, str):
        return _cut_text(value, budget)
    if isinstance(value, list):
        return _cut_list(value, budget)
    if not isinstance(value, dict):
        return value
    small = {**value, "truncated": True}
    for _ in range(len(small)):
        excess = size(small) - budget
        if excess <= 0:
            break
        key = max(
            (name for name in small if isinstance(small[name], (str, list, dict))),
            key=lambda name: size(small[name]),
            default=None,
        )
        if key is None:
            break
        small[key] = shrink(small[key], max(size(small[key]) - excess, 16))
    return small if size(small) <= budget else _cut_object(small, budget)


def shown(result: Any, budget: int) -> Any:
    """`shrink` for a tool's result; what says how to go on is never cut itself.

    That is where the whole of it is kept, and of a page ``page``, ``next`` and ``note``; ``next``
    leads to the first row that is left out.
    """
    if size(result) <= budget or not isinstance(result, dict):
        return shrink(result, budget)
    is_page = _is_page(result)
    guides = (FULL_RESULT, "page", "next", "note") if is_page else (FULL_RESULT,)
    guide = {key: result[key] for key in guides if key in result}
    if not guide:
        return shrink(result, budget)
    rest = {key: value for key, value in result.items() if key not in guide}
    longest = {**guide, "next": "9" * (len(result["page"]) + 10)} if is_page else guide
    small: dict[str, Any] = shrink(rest, max(budget - size(longest), 0))
    kept = small.get("rows")
    if is_page and isinstance(kept, list) and 0 < len(kept) < len(result["rows"]):
        handle, _, first = result["page"].rpartition(".")
        guide["next"] = f"{handle}.{int(first) + len(kept)}"
    return {**small, **guide}


def _is_page(result: dict[str, Any]) -> bool:
    page, rows = result.get("page"), result.get("rows")
    return isinstance(rows, list) and isinstance(page, str) and page.rpartition(".")[2].isdecimal()


def _cut_text(text: str, budget: int) -> str:
    room = max(budget - len(CUT_MARK.encode()) - 2, 0)
    # JSON escapes make a text longer than its UTF-8; take the worst case only where it is needed.
    head = text.encode()[:room].decode(errors="ignore")
    while head and size(head) > room + 2:
        head = head[: len(head) * room // (size(head) + 1)]
    return head + CUT_MARK


def _cut_object(value: dict[str, Any], budget: int) -> dict[str, Any]:
    """The first keys that fit, where no value is long enough to be cut."""
    kept: dict[str, Any] = {"truncated": True}
    left = budget - size(kept)
    for key, item in value.items():
        left -= size({key: item}) - 1
        if left < 0:
            break
        kept[key] = item
    return kept


def _cut_list(items: list[Any], budget: int) -> list[Any]:
    kept: list[Any] = []
    left = budget - 2
    for item in items:
        cost = size(item) + 1
        if cost > left:
            if not kept and left > 64:
                kept.append(shrink(item, left - 1))
            break
        kept.append(item)
        left -= cost
    return kept
