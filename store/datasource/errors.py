"""Why a datasource cannot be used; each leaf is also a refusal the edge can answer with.

    store.errors.Refusal
    ├── InvalidConfig     invalid             config or secret is malformed
    ├── AddressNotAllowed refused             the host may not be reached from here
    ├── RoleTooPowerful   role_too_powerful   its role can do more than read and write rows
    ├── OwnDatabase       own_database        it is the database of this installation
    ├── FileUnusable      invalid             no such project file, or not a database
    ├── Unreachable       unavailable         no connection, or sign-in refused
    └── PoolBusy          unavailable         all connections allowed to the tenant are in use

Texts are for people and the model: no address, no password, no connection string.
"""

from store.errors import Invalid, Unavailable


class InvalidConfig(Invalid):
    """The config does not fit the kind."""

    code = "invalid"


class AddressNotAllowed(Invalid):
    """The host resolves to an address that may not be reached from here."""

    code = "refused"


class RoleTooPowerful(Invalid):
    """The role may do what no read-only transaction can hold back."""

    code = "role_too_powerful"


class OwnDatabase(Invalid):
    """The database holds an installation's own tables."""

    code = "own_database"


class FileUnusable(Invalid):
    """The project file is missing or cannot be opened as a database."""

    code = "invalid"


class Unreachable(Unavailable):
    """No connection could be made."""


class PoolBusy(Unavailable):
    """No connection became free in time."""
