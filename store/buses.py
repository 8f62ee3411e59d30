"""Which bus the settings name (``BUS_URL``)."""

from store.bus import Listener, Publisher, Signer
from store.nats_bus import NatsListener, NatsPublisher
from store.postgres_bus import PostgresListener, PostgresPublisher
from store.settings import POSTGRES_BUS, Settings


def new_publisher(settings: Settings, signer: Signer) -> Publisher:
    """The sending side, not started yet."""
    url = settings.bus_url.get_secret_value()
    if url == POSTGRES_BUS:
        return PostgresPublisher(settings.database_url.get_secret_value(), signer)
    return NatsPublisher(url, signer)


def new_listener(settings: Settings) -> Listener:
    """The hearing side, not started yet."""
    url = settings.bus_url.get_secret_value()
    if url == POSTGRES_BUS:
        return PostgresListener(settings.listen_url)
    return NatsListener(url)
