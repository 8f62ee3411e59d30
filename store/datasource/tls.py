"""TLS to an address whose certificate must be the host's."""

import ssl
from typing import Any

from typing_extensions import override

from store.datasource.config import Ssl


class NamedContext(ssl.SSLContext):
    """Checks the certificate against the datasource's host, not the address connected to."""

    host_name: str

    @override
    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        kwargs["server_hostname"] = self.host_name
        return super().wrap_bio(*args, **kwargs)


def client_context(host: str, mode: Ssl) -> NamedContext:
    """The context of a client; only ``verify-full`` looks at the certificate."""
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host_name = host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode == "verify-full":
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
