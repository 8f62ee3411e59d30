"""A model server that says too much: further markers for `tests.model_server`.

``#chunk:N`` one chunk with N characters · ``#chunks:N`` N characters in chunks of 64 KiB ·
``#args:N`` a tool call with arguments of N characters, once · ``#steps:N`` a tool call in each of
the first N steps · ``#raw:NAME`` a text of `TEXTS`.
"""

from collections.abc import AsyncIterator
from typing import Any

from typing_extensions import override

from tests.model_server import Call, ModelServer, _chunk

# Each has broken somebody: PostgreSQL, strict JSON, terminals, layouts, counters of characters.
TEXTS = {
    "nul": "before\0after",
    "high": "lone \ud83d end",
    "low": "lone \ude80 end",
    "marks": "e" + "\u0301" * 100_000,
    "rtl": "\u202egnp.exe\u2066\u2067\u2069 \u200f\u200e",
    "controls": "".join(chr(n) for n in range(1, 32)) + "\x7f\x85\u2028\u2029\ufeff\ufffe\uffff",
    "zalgo": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "format": (
        "%s %n {0.__class__} ${jndi:ldap://x} '; DROP TABLE turns; -- <script>alert(1)</script>"
    ),
    "astral": "𝕏" * 5_000 + "👩‍👩‍👧‍👦" * 500,
}


class GiantModel(ModelServer):
    @override
    async def _stream(
        self, call: Call, names: dict[str, list[str]], tools: list[list[str]], step: int
    ) -> AsyncIterator[bytes]:
        if "args" in names and step == 0:
            filler = "x" * int(names["args"][0])
            tools = [["list_datasources", f'{{"filler":"{filler}"}}']]
        if "steps" in names and step < int(names["steps"][0]):
            tools = [["list_datasources", "{}"]]
        async for part in super()._stream(call, names, tools, step):
            yield part

    @override
    async def _parts(
        self, call: Call, names: dict[str, list[str]], tools: list[list[str]]
    ) -> AsyncIterator[bytes]:
        if tools:
            async for part in super()._parts(call, names, tools):
                yield part
        elif "chunk" in names:
            yield _chunk({"content": "y" * int(names["chunk"][0])})
        elif "chunks" in names:
            left = int(names["chunks"][0])
            while left > 0:
                yield _chunk({"content": "z" * min(left, 65_536)})
                left -= 65_536
        elif "raw" in names:
            yield _chunk({"content": TEXTS[names["raw"][0]]})
        else:
            async for part in super()._parts(call, names, tools):
                yield part


def told(call: Call) -> list[dict[str, Any]]:
    """Results of tools in a request."""
    return [message for message in call.body["messages"] if message["role"] == "tool"]
