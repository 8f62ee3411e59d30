"""What decides, besides a server itself, whether and how it is reached."""

import ssl
from dataclasses import dataclass, field
from functools import cached_property

from store.mcp.operator import Command, Commands


@dataclass(frozen=True)
class Surroundings:
    """Of one process; made once.

    Attributes:
        private_hosts: `Settings.private_hosts`.
        commands: Servers of the operator's configuration.
    """

    private_hosts: tuple[str, ...]
    commands: Commands = field(default_factory=Commands)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def tls(self) -> ssl.SSLContext:
        """The certificates of the world, loaded once."""
        return self._tls

    def command(self, name: str) -> Command:
        """The operator's server of that name.

        Raises:
            McpTrouble: There is none (any more).
        """
        return self.commands.get(name)
