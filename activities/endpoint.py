"""Whose model answers: the tenant's, else the installation's, else the demo model."""

from dataclasses import dataclass
from uuid import UUID

from activities.errors import Trouble
from store.secrets import KeyRing, SecretError
from store.settings import Settings
from store.steps import ModelConfig
from workflows.types import TurnCode

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
DEMO_MODEL = "everturn-demo"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is, and as what it is asked.

    Attributes:
        own: Address or key are the tenant's, so nothing of the installation's account goes there.
        guarded: The address is a tenant's word; its connections must not lead into the operator's
            network.
        kind: Which API it speaks: ``chat_completions`` or ``responses``.
    """

    url: str
    key: str
    model: str
    own: bool = False
    guarded: bool = False
    kind: str = "chat_completions"


class Endpoints:
    """Chooses the endpoint of a call. A tenant's address never receives the installation's key.

    Args:
        keys: Open the tenants' keys.
        settings: The installation's model.
    """

    def __init__(self, keys: KeyRing, settings: Settings) -> None:
        self._keys = keys
        self._settings = settings

    def choose(self, config: ModelConfig, tenant_id: UUID) -> Endpoint:
        """The endpoint for a tenant; whether it may be reached is its connection's to judge.

        Raises:
            Trouble: No model is configured, or the tenant's key cannot be read.
        """
        return self._of_tenant(config, tenant_id) or self._of_installation(config)

    def _of_tenant(self, config: ModelConfig, tenant_id: UUID) -> Endpoint | None:
        if config.key is None and not config.url:
            return None
        try:
            key = self._keys.decrypt(config.key, tenant_id) if config.key is not None else "none"
        except SecretError:
            raise Trouble(
                TurnCode.MODEL_REFUSED,
                "The tenant's model key cannot be read any more."
                " An administrator has to enter it again.",
                retry=False,
            ) from None
        return Endpoint(
            config.url or self._settings.openai_base_url or OPENAI_URL,
            key,
            config.model or self._settings.openai_model or DEFAULT_MODEL,
            own=True,
            guarded=bool(config.url),
            kind=config.kind,
        )

    def _of_installation(self, config: ModelConfig) -> Endpoint:
        settings = self._settings
        key = settings.openai_api_key.get_secret_value()
        if key or settings.openai_base_url:
            model = config.model or settings.openai_model or DEFAULT_MODEL
            return Endpoint(
                settings.openai_base_url or OPENAI_URL, key or "none", model, kind=config.kind
            )
        if settings.demo_model_url:
            return Endpoint(settings.demo_model_url, "demo", DEMO_MODEL)
        raise Trouble(
            TurnCode.MODEL_UNAVAILABLE,
            "No model is configured. Set the tenant's model, or OPENAI_API_KEY for all tenants.",
            retry=False,
        )
