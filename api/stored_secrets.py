"""Secrets that rows hold for what they connect to: sent there, and nowhere else."""

from store.errors import Invalid
from store.secrets import KeyRing, SecretError
from store.tables import Datasource, McpServer


def opened(keys: KeyRing, row: Datasource | McpServer) -> str:
    """A row's secret; empty without one.

    Raises:
        Invalid: It does not open with any key there is now.
    """
    if row.secret is None:
        return ""
    try:
        return keys.decrypt(row.secret, row.tenant_id)
    except SecretError as exc:
        raise Invalid("The stored secret does not open any more. Send it again.") from exc


def secret_for(keys: KeyRing, row: Datasource | McpServer, sent: str | None, *, moves: bool) -> str:
    """The secret a changed row connects with: the one that was sent, else the stored one.

    Args:
        sent: With the change; empty to forget the stored one.
        moves: The change leads to another host.

    Raises:
        Invalid: A stored one would follow to another host, or does not open any more.
    """
    if sent is not None:
        return sent
    if moves and row.secret is not None:
        raise Invalid(
            "The stored secret is not sent to another host. Send `secret` as well.",
            errors=[{"field": "secret", "message": "is needed when the host changes"}],
        )
    return opened(keys, row)
