"""The connection to Temporal, from our settings and the SDK's own ``TEMPORAL_*`` profile."""

import os
import socket

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import (
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from store.settings import Settings


def runtime(metrics_address: str | None = None) -> Runtime:
    """The SDK's core, quiet below warnings.

    Args:
        metrics_address: ``host:port`` where the SDK serves its own Prometheus metrics.
    """
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(filter=TelemetryFilter(core_level="WARN", other_level="ERROR")),
            metrics=PrometheusConfig(bind_address=metrics_address) if metrics_address else None,
        )
    )


async def connect(
    settings: Settings,
    *,
    lazy: bool = False,
    metrics_address: str | None = None,
    beside: Client | None = None,
) -> Client:
    """Connect to the Temporal server.

    Args:
        lazy: Connect with the first call, so that a process starts while Temporal is away.
        metrics_address: See `runtime`.
        beside: Another client of the process, whose threads it is to share.
    """
    shared = beside.service_client.config.runtime if beside else None
    profile = ClientConfig.load_client_connect_config()
    profile.setdefault("target_host", settings.temporal_address)
    profile.setdefault("namespace", settings.temporal_namespace)
    # What a tool card and Temporal's page name a worker by.
    identity = f"{socket.gethostname()}:{os.getpid()}"
    return await Client.connect(
        **profile, lazy=lazy, identity=identity, runtime=shared or runtime(metrics_address)
    )
