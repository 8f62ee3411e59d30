"""What keeps the stack from starting."""


class CannotStart(Exception):
    """A setting stands in the way; the message is one line that names it. Exit code 2."""
