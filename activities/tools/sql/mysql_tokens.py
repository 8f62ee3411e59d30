"""The tokens of a MySQL or MariaDB query, by the server's own rules, and its text without comments.

A parser that reads quotes or comments otherwise than the server would judge another query than the
one that runs. So the text is taken apart here first, as the server does with the `sql_mode` that is
set for it (backslash escapes, ``"`` for texts, ``||`` for OR), and what servers or parsers read
differently is refused. What is sent has no comments: neither ``/*! … */``, whose content servers
run, nor hints, which may change settings.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from activities.tools.sql.guard import refused

_SPACE = r"[ \t\n\r\f\v]+"
# After two dashes comes a space or a control character, or they are two minus signs.
_COMMENT = r"\#[^\n]*|--(?=[ \t\n\r\f\v]|$)[^\n]*|/\*(?![!+]|M!)(?s:.*?)\*/"
_TEXT = r"'(?:[^'\\]|\\[\s\S]|'')*'|\"(?:[^\"\\]|\\[\s\S]|\"\")*\""
_QUOTED = r"`(?:[^`]|``)*`"
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_$\u0080-\U0010ffff])"
_WORD = r"[0-9A-Za-z_$\u0080-\U0010ffff]+"
# Without the beginnings of comments that are none of `_COMMENT`.
_SIGN = r"->>|->|<=>|<<|>>|<=|>=|<>|!=|\|\||&&|-(?!-)|/(?!\*)|[+*%=<>!&|^~(),.;]"

_TOKEN = re.compile(
    f"(?P<space>{_SPACE})|(?P<comment>{_COMMENT})|(?P<text>{_TEXT})|(?P<quoted>{_QUOTED})"
    f"|(?P<number>{_NUMBER})|(?P<word>{_WORD})|(?P<sign>{_SIGN})"
)
_UNKNOWN = {
    "/*!": ("comments", "/*! … */ is run by the server. Leave it out."),
    "/*M": ("comments", "/*M! … */ is run by the server. Leave it out."),
    "/*+": ("comments", "hints can change settings. Leave /*+ … */ out."),
    "/*": ("text", "a comment has no end."),
    "--": ("text", "-- begins a comment only before a space; write a space between minus signs."),
    "@": ("variables", "@variables and @@settings cannot be used. Write the value."),
    ":": ("variables", "nothing can be assigned within a query."),
    "?": ("parameters", "? has no value here. Write the value."),
    "{": ("grammar", "{ … } cannot be used; write the function or value itself."),
    "\\": ("grammar", r"\N cannot be used; write NULL."),
    "'": ("text", "a text has no end."),
    '"': ("text", "a text has no end."),
    "`": ("text", "a quoted name has no end."),
}


class Kind(StrEnum):
    """What a token is."""

    TEXT = "text"
    QUOTED = "quoted"
    NUMBER = "number"
    WORD = "word"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        text: As written; a quoted name without its quotes.
        start: Where it begins in the text that is sent.
        end: Just after it.
    """

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The word in upper case; empty for all else."""
        return self.text.upper() if self.kind is Kind.WORD else ""

    @property
    def name(self) -> str:
        """The word or quoted name in lower case; empty for all else."""
        return self.text.lower() if self.kind in {Kind.WORD, Kind.QUOTED} else ""

    def is_sign(self, sign: str) -> bool:
        """Whether it is this operator or bracket."""
        return self.kind is Kind.SIGN and self.text == sign


def _pieces(query: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(query):
        found = _TOKEN.match(query, place)
        if found is None:
            raise _unknown(query[place:])
        if found.lastgroup == "word" and not _is_plain(found.group()):
            raise refused("text", f"{found.group()[:20]!r} holds a sign that is no letter.")
        yield found.lastgroup or "", found.group()
        place = found.end()


def _is_plain(word: str) -> bool:
    # Some parsers take other Unicode spaces for spaces; servers take them for letters.
    return word.isascii() or all(sign.isascii() or sign.isalnum() for sign in word)


def _unknown(rest: str) -> Exception:
    for start, (rule, text) in _UNKNOWN.items():
        if rest.startswith(start):
            return refused(rule, text)
    return refused("grammar", f"{rest[0]!r} cannot be used here.")


def take_apart(query: str) -> tuple[str, list[Token]]:
    """The query without comments, a space in the place of each, and its tokens.

    Raises:
        ToolRefused: It holds something that is not a token of a query.
    """
    text: list[str] = []
    tokens: list[Token] = []
    place = 0
    for kind, piece in _pieces(query):
        if kind == "comment":
            text.append(" ")
            place += 1
            continue
        if kind != "space":
            shown = piece[1:-1].replace("``", "`") if kind == "quoted" else piece
            tokens.append(Token(Kind(kind), shown, place, place + len(piece)))
        text.append(piece)
        place += len(piece)
    return "".join(text), tokens
