"""The page, as people use it: sign in, ask, watch the tool, read the answer, reload in between."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Person
from tests.client import fetch
from tests.model_server import expected
from tests.system import System, Team

pytestmark = pytest.mark.browser


async def test_question_tool_card_answer(team: Team, ada: Person) -> None:
    shop = await team.sqlite_shop()
    query = json.dumps({"datasource_id": shop, "query": "SELECT name, price FROM items"})
    await ada.ask(f"look #tool:database_query:{query} #text:5")
    card = ada.page.locator("[data-testid=tool-card][data-tool=database_query]")
    await expect(card).to_have_attribute("data-status", "completed", timeout=20_000)
    await expect(card).to_contain_text("3 rows")
    await card.locator("summary, button").first.click()
    await expect(card.get_by_test_id("tool-result-table")).to_contain_text("chair")
    await expect(card).to_contain_text("SELECT name, price")
    await ada.answered(expected(1, 5))
    assert [c for c in ada.complaints if "401" not in c] == []


async def test_a_reload_in_the_middle_shows_the_same_text(team: Team, ada: Person) -> None:
    await ada.ask("long #text:120:30")
    streaming = ada.page.locator("[data-testid=message][data-role=assistant]")
    await expect(streaming).to_contain_text("0020", timeout=20_000)
    await ada.page.reload()
    await ada.live()
    # What had been streamed is there again, and the rest goes on coming.
    await expect(streaming).to_contain_text("0020", timeout=5_000)
    await expect(streaming).not_to_contain_text("0120", timeout=100)
    await ada.answered(expected(1, 120))
    before = await ada.answers()
    await ada.page.reload()
    await ada.answered(expected(1, 120))
    assert await ada.answers() == before == [expected(1, 120)]


async def test_two_browsers_in_one_room_see_the_same(
    team: Team, ada: Person, grace: Person
) -> None:
    await ada.ask("shared #text:60:40")
    await ada.page.wait_for_url("**/conversations/**")
    await grace.page.goto(ada.page.url.replace(origin(ada.page.url), origin(grace.page.url)))
    await ada.answered(expected(1, 60))
    await grace.answered(expected(1, 60))
    assert await ada.answers() == await grace.answers() == [expected(1, 60)]
    question = grace.page.locator("[data-testid=message][data-role=user]")
    await expect(question).to_contain_text("Ada")
    await expect(question).to_contain_text("shared")


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def test_stop_keeps_what_was_said(team: Team, ada: Person) -> None:
    await ada.ask("endless #text:3000:40")
    answer = ada.page.locator("[data-testid=message][data-role=assistant]")
    await expect(answer).to_contain_text("0010", timeout=20_000)
    await ada.page.get_by_test_id("stop").click()
    await expect(answer).to_have_attribute("data-status", "stopped", timeout=5_000)
    stored = await fetch(team.ada, team.project_id)
    (text,) = [t.text for t in stored.texts.values()]
    assert await ada.answers() == [text]


async def test_the_page_survives_the_death_of_its_edge(
    system: System, team: Team, ada: Person
) -> None:
    await ada.ask("survive #text:150:30")
    answer = ada.page.locator("[data-testid=message][data-role=assistant]")
    await expect(answer).to_contain_text("0010", timeout=20_000)
    await system.restart_edge(0)
    await ada.answered(expected(1, 150), timeout=40)
    assert await ada.answers() == [expected(1, 150)]


HOSTILE = "<img/src=x/onerror=alert(1)>_<script>alert(1)</script>_![a](https://evil.test/q=1)_[x](javascript:alert(1))"


async def test_hostile_text_is_inert(team: Team, ada: Person) -> None:
    dialogs: list[str] = []
    ada.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await ada.ask(f"#say:{HOSTILE}")
    await ada.page.locator(
        "[data-testid=message][data-role=assistant][data-status=complete]"
    ).wait_for(timeout=20_000)
    shown = ada.page.get_by_test_id("message-content")
    assert await shown.locator("img, script, iframe").count() == 0
    links = await shown.locator("a").evaluate_all("links => links.map(link => link.href)")
    assert not [link for link in links if link.startswith("javascript")]
    own = origin(ada.page.url)
    foreign = [url for url in ada.requests if not re.match(rf"{own}/|data:|blob:|ws:", url)]
    assert (dialogs, foreign) == ([], [])


async def test_signing_in_says_what_is_wrong_and_comes_back(
    system: System, team: Team, ada: Person
) -> None:
    place = ada.page.url
    await ada.page.context.clear_cookies()
    await ada.page.reload()
    await ada.page.get_by_test_id("login-email").fill(f"ada@{team.domain}")
    await ada.page.get_by_test_id("login-password").fill("wrong")
    await ada.page.get_by_test_id("login-submit").click()
    await expect(ada.page.get_by_role("alert").first).to_be_visible()
    await ada.sign_in(ada.page.url, f"ada@{team.domain}")
    assert urlsplit(ada.page.url).path == urlsplit(place).path


def test_no_word_of_the_page_is_loaded_from_elsewhere() -> None:
    document = (Path(__file__).parents[2] / "frontend/dist/index.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", document)
    assert "<script>" not in document
    assert " style=" not in document
