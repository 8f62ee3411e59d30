"""Why a conversation with an MCP server came to nothing.

Texts are for people and the model: no address, no header, and of what the server sent only the
message of an error that it meant to be read.
"""

from store.texts import clean, cut

MAX_WORDS_CHARS = 500


class McpTrouble(Exception):
    """The conversation broke.

    Attributes:
        code: ``refused`` (a guard of ours), ``unavailable``, ``timeout``, ``too_large`` or
            ``failed``, as tools have them.
        answered: The server has answered the call itself with an error: what became of it is known.
    """

    def __init__(self, code: str, message: str, *, answered: bool = False) -> None:
        message = cut(clean(message), MAX_WORDS_CHARS)
        super().__init__(message)
        self.code = code
        self.message = message
        self.answered = answered
