"""What is printed once everything runs."""

from embedded.console import Console
from embedded.environment import Environment

OPENAI = "https://api.openai.com/v1"


def greet(environment: Environment, console: Console) -> None:
    """Say where everything is, who may sign in and who answers."""
    settings = environment.settings
    lines = [
        ("page", f"http://{environment.edge_host}:{settings.port}"),
        ("runs", f"{environment.temporal.ui_url} (Temporal)"),
    ]
    if environment.has_demo:
        lines += [
            ("sign in", "ada@demo.test or grace@demo.test"),
            ("password", environment.demo_password),
        ]
    if environment.has_real_model:
        model = settings.openai_model or "the default model"
        lines += [("model", f"{model} at {settings.openai_base_url or OPENAI}")]
    elif environment.runs_demo_model:
        lines += [
            ("model", "the built-in demo model"),
            ("", "(set OPENAI_API_KEY and OPENAI_MODEL for a real one)"),
        ]
    else:
        lines += [("model", settings.demo_model_url)]
    lines += [("data", str(environment.data_dir)), ("stop", "Ctrl-C; all data is kept")]
    console.say()
    console.say("  Everturn is up.")
    console.say()
    for name, value in lines:
        console.say(f"    {name:<10}{value}")
    console.say()
