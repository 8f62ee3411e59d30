"""The whole command: what runs, what comes back by itself, and that nothing stays behind."""

import asyncio
import os
import re
import signal
from collections.abc import Callable

import httpx
import pytest

from tests.embedded.command import EmbeddedCommand

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

MakeCommand = Callable[..., EmbeddedCommand]
CHILDREN = ("postgres", "temporal", "model", "edge", "worker")


async def sign_in(stack: EmbeddedCommand, client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(
        "/api/auth/login",
        json={"email": "ada@demo.test", "password": stack.password},
        headers={"Origin": stack.url},
    )


async def create_conversation(stack: EmbeddedCommand, title: str) -> None:
    async with httpx.AsyncClient(base_url=stack.url, headers={"Origin": stack.url}) as client:
        assert (await sign_in(stack, client)).status_code == 200
        project = (await client.get("/api/projects")).json()["items"][0]
        answer = await client.post(
            f"/api/projects/{project['id']}/conversations", json={"title": title}
        )
        assert answer.is_success, answer.text


async def titles(stack: EmbeddedCommand) -> set[str]:
    async with httpx.AsyncClient(base_url=stack.url, headers={"Origin": stack.url}) as client:
        assert (await sign_in(stack, client)).status_code == 200
        project = (await client.get("/api/projects")).json()["items"][0]
        answer = await client.get(f"/api/projects/{project['id']}/conversations")
        return {item["title"] for item in answer.json()["items"]}


def readiness(stack: EmbeddedCommand) -> str:
    try:
        return httpx.get(f"{stack.url}/api/health/ready", timeout=5).text
    except httpx.TransportError as error:
        return repr(error)


def is_ready(stack: EmbeddedCommand) -> bool:
    return '"status":"ready"' in readiness(stack)


async def test_page_temporal_ui_and_sign_in_are_where_the_command_says(
    stack: EmbeddedCommand,
) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as client:
        for url in (stack.url, stack.ui_url):
            assert url in stack.output
            assert (await client.get(url)).status_code == 200
        assert (await sign_in(stack, client)).json()["user"]["email"] == "ada@demo.test"


def test_every_child_can_be_found_by_its_pid_file(stack: EmbeddedCommand) -> None:
    alive = stack.processes()
    assert {stack.pid_of(name) for name in CHILDREN} <= alive.keys()
    assert "-m worker" in alive[stack.pid_of("worker")]


def test_secrets_are_readable_by_nobody_else(stack: EmbeddedCommand) -> None:
    for path in ("secrets.json", "temporal.db"):
        assert (stack.data_dir / path).stat().st_mode & 0o077 == 0
    assert stack.data_dir.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["worker", "edge", "model", "temporal", "postgres"])
async def test_a_killed_child_comes_back_by_itself(stack: EmbeddedCommand, name: str) -> None:
    before = stack.pid_of(name)
    os.kill(before, signal.SIGKILL)

    def another_runs() -> bool:
        try:
            return stack.pid_of(name) != before
        except (OSError, ValueError):
            return False

    assert await stack.until(another_runs) < 5
    await stack.until(lambda: is_ready(stack), within=60, why=lambda: readiness(stack))
    assert f"{name} was ended by SIGKILL; starting it again" in stack.output
    await create_conversation(stack, f"after the {name}")


async def test_the_data_folder_is_for_one_command_only(
    stack: EmbeddedCommand, command: MakeCommand
) -> None:
    second = command(stack.data_dir)
    second.output_file = stack.data_dir.with_suffix(".second")
    assert await second.start().ends() == 2
    assert only_line(second).startswith("everturn: EVERTURN_DATA_DIR: ")
    assert is_ready(stack)


@pytest.mark.parametrize(
    ("ending", "code"),
    [(signal.SIGHUP, 0), (signal.SIGKILL, -9)],
)
async def test_nothing_stays_behind_and_data_is_found_again(
    stack: EmbeddedCommand, ending: signal.Signals, code: int
) -> None:
    password = stack.password
    await create_conversation(stack, f"before {ending.name}")
    started = set(stack.processes())
    assert len(started) > len(CHILDREN)
    stack.signal(ending)
    assert await stack.ends() == code
    await stack.until(lambda: not stack.processes(), within=10)
    assert not started & stack.processes().keys()

    await stack.start().until_up()
    assert stack.password == password
    assert f"before {ending.name}" in await titles(stack)


async def test_a_second_interrupt_does_not_wait(stack: EmbeddedCommand) -> None:
    os.kill(stack.pid_of("worker"), signal.SIGSTOP)  # it will not hear any polite request
    stack.signal(signal.SIGINT)
    await stack.until(lambda: "stopping" in stack.output)
    await asyncio.sleep(0.5)  # a person takes that long; programs send one wish several times
    stack.signal(signal.SIGINT)
    assert await stack.ends(within=10) == 0
    await stack.until(lambda: not stack.processes(), within=5)
    await stack.start().until_up()


async def test_an_interrupt_while_starting_leaves_nothing(command: MakeCommand) -> None:
    starting = command().start()
    await starting.until(lambda: "✓ PostgreSQL" in starting.output)
    starting.signal(signal.SIGINT)
    assert await starting.ends() == 0
    await starting.until(lambda: not starting.processes(), within=5)
    assert "Traceback" not in starting.output


@pytest.mark.parametrize(
    "setting",
    ["EVERTURN_PORT", "EVERTURN_POSTGRES_PORT", "EVERTURN_TEMPORAL_PORT"],
)
async def test_a_taken_port_is_one_line_that_names_the_setting(
    stack: EmbeddedCommand, command: MakeCommand, setting: str
) -> None:
    taken = stack.settings["EVERTURN_TEMPORAL_UI_PORT"]
    refused = command(**{setting: taken})
    assert await refused.start().ends() == 2
    assert re.match(rf"everturn: {setting}: port {taken} on \S+ is taken", only_line(refused))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("EVERTURN_PORT", "http"),
        ("EVERTURN_HOST", "192.0.2.1"),
        ("EVERTURN_DATA_DIR", "/dev/null/data"),
        ("EVERTURN_DATA_DIR", "/proc/data"),
    ],
)
async def test_an_impossible_setting_is_one_line_that_names_it(
    command: MakeCommand, setting: str, value: str
) -> None:
    refused = command(**{setting: value})
    assert await refused.start().ends() == 2
    assert only_line(refused).startswith(f"everturn: {setting}: ")


async def test_a_damaged_secrets_file_is_never_overwritten(command: MakeCommand) -> None:
    refused = command()
    refused.data_dir.mkdir()
    secrets = refused.data_dir / "secrets.json"
    secrets.write_text('{"owner_pass')
    assert await refused.start().ends() == 2
    assert str(secrets) in only_line(refused)
    assert secrets.read_text() == '{"owner_pass'


async def test_it_ends_with_the_process_that_started_it(command: MakeCommand) -> None:
    """As under make, when make itself is killed."""
    tied = command()
    tied.wrapper = ["sh", "-c", '"$@" --with-parent $$ & wait', "sh"]
    tied.arguments = ["-m", "embedded"]
    await tied.start().until_up()
    tied.signal(signal.SIGKILL)
    assert await tied.ends() == -9
    await tied.until(lambda: not tied.processes(), within=20)
    assert "✓ stopped" in tied.output


def only_line(command: EmbeddedCommand) -> str:
    (line,) = command.output.splitlines()
    return line
