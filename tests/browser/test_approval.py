"""A tool asks on one person's page; another person, in another browser, lets it run."""

import json

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Person
from tests.browser.test_chat import origin
from tests.system import Team, checked

pytestmark = pytest.mark.browser


async def test_a_second_person_approves_and_both_see_the_result(
    team: Team, ada: Person, grace: Person
) -> None:
    rules = {"items": [{"tool": "database_query", "policy": "ask", "not_asker": True}]}
    checked(await team.ada.put(f"/api/projects/{team.project_id}/tool-policies", json=rules))
    shop = await team.sqlite_shop()
    query = {"datasource_id": shop, "query": "SELECT name FROM items"}
    await ada.ask(f"look #tool:database_query:{json.dumps(query)} #say:found_it")
    await ada.page.wait_for_url("**/conversations/**")
    await grace.page.goto(ada.page.url.replace(origin(ada.page.url), origin(grace.page.url)))
    hers = ada.page.locator("[data-testid=tool-card][data-tool=database_query]")
    theirs = grace.page.locator("[data-testid=tool-card][data-tool=database_query]")
    for card in (hers, theirs):
        await expect(card).to_have_attribute("data-status", "awaiting_approval", timeout=20_000)
        await expect(card.get_by_test_id("tool-sql")).to_contain_text("SELECT name")
    await expect(hers.get_by_test_id("approval-hint")).to_contain_text("somebody else")
    await expect(hers.get_by_test_id("approve")).to_be_disabled()
    # With the keyboard alone, and first with arguments that do not fit.
    await theirs.get_by_test_id("edit-arguments").focus()
    await grace.page.keyboard.press("Enter")
    area = theirs.get_by_test_id("approval-arguments")
    await expect(area).to_be_focused()
    await area.fill(json.dumps({**query, "query": 7}))
    await theirs.get_by_test_id("approve").focus()
    await grace.page.keyboard.press("Enter")
    await expect(theirs.get_by_role("alert")).to_contain_text("do not fit")
    await area.fill(json.dumps({**query, "query": "SELECT name FROM items WHERE price > 50"}))
    await theirs.get_by_label("for this conversation").check()
    await theirs.get_by_test_id("approval-note").fill("the dear ones only")
    await theirs.get_by_test_id("approve").click()
    for person, card in ((ada, hers), (grace, theirs)):
        await expect(card).to_have_attribute("data-status", "completed", timeout=20_000)
        await person.answered("found it")
        if await card.get_attribute("open") is None:
            await card.locator("summary").first.click()
        await expect(card.get_by_test_id("tool-result-table")).to_contain_text("desk")
        await expect(card.get_by_test_id("tool-result-table")).not_to_contain_text("lamp")
        await expect(card.get_by_test_id("approval-outcome")).to_contain_text(
            "Approved by Grace for this conversation"
        )
        await expect(card.get_by_test_id("argument-difference")).to_contain_text("price > 50")
        assert [c for c in person.complaints if "401" not in c] == []
