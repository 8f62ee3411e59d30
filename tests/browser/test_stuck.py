"""A stuck tool is three clicks from an answer."""

import os
import signal
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import person
from tests.system import running

pytestmark = pytest.mark.browser

# For looking at it: EVERTURN_SCREENSHOTS names a folder.
SCREENSHOTS = os.environ.get("EVERTURN_SCREENSHOTS")


async def test_skip_with_a_note_on_a_stopped_worker(tmp_path: Path, chromium: Browser) -> None:
    async with running(tmp_path, edges=1, workers=0) as system:
        await system.start_worker("--queues", "turns,model")
        tools = await system.start_worker("--queues", "tools-database")
        team = await system.team()
        context = await chromium.new_context(viewport={"width": 1280, "height": 820})
        phone = await chromium.new_context(viewport={"width": 390, "height": 844})
        ada, grace = await person(context), await person(phone)
        for somebody, name in ((ada, "ada"), (grace, "grace")):
            await somebody.sign_in(system.edges[0].url, f"{name}@{team.domain}")
            await somebody.live()
        os.kill(tools.pid, signal.SIGSTOP)
        try:
            await ada.ask("what do we have #tool:list_datasources:{} #say:nothing_new")
            await ada.page.wait_for_url("**/conversations/**")
            await grace.page.goto(ada.page.url)
            card = ada.page.get_by_test_id("tool-card")
            seen = grace.page.get_by_test_id("tool-card")
            # It opens by itself, for everybody, and says why.
            await expect(card.get_by_test_id("tool-stalled")).to_be_visible(timeout=12_000)
            await expect(seen.get_by_test_id("tool-stalled")).to_be_visible(timeout=5_000)
            await expect(card.get_by_test_id("tool-run")).to_contain_text("tools-database")
            await expect(seen.get_by_test_id("tool-skip")).to_have_count(0)
            await shoot(ada.page, "stalled")
            await shoot(grace.page, "stalled-phone")
            await card.get_by_test_id("tool-skip").click()
            await card.get_by_test_id("tool-note").fill("use last month's figures")
            await shoot(ada.page, "skip")
            await card.get_by_test_id("tool-confirm").click()
            await expect(card).to_have_attribute("data-status", "cancelled", timeout=5_000)
            await ada.answered("nothing new", timeout=15)
            for each in (card, seen):
                await expect(each).to_contain_text("Skipped by Ada: use last month's figures.")
            await shoot(ada.page, "skipped")
            await shoot(grace.page, "skipped-phone")
        finally:
            os.kill(tools.pid, signal.SIGCONT)
        *_, last = system.model.calls
        assert "use last month's figures" in last.body["messages"][-1]["content"]
        assert [c for c in [*ada.complaints, *grace.complaints] if "401" not in c] == []
        await context.close()
        await phone.close()


async def shoot(page: Page, name: str) -> None:
    if SCREENSHOTS is None:
        return
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=f"{SCREENSHOTS}/{name}-{scheme}.png")
