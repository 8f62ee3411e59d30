"""A real Chromium, and people who are signed in with it."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.system import PASSWORD, System, Team

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass
class Person:
    """Somebody at a browser, with what its console and its network complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def sign_in(self, url: str, email: str) -> None:
        await self.page.goto(url)
        await self.page.get_by_test_id("login-email").fill(email)
        await self.page.get_by_test_id("login-password").fill(PASSWORD)
        await self.page.get_by_test_id("login-submit").click()
        await self.page.get_by_test_id("composer").wait_for()

    async def ask(self, text: str) -> None:
        await self.page.get_by_test_id("composer").fill(text)
        await self.page.keyboard.press("Enter")

    async def live(self) -> None:
        await self.page.locator("[data-testid=connection-state][data-state=live]").wait_for()

    async def answers(self) -> list[str]:
        """Texts of the assistant's messages, as they are shown."""
        shown = self.page.locator("[data-testid=message][data-role=assistant]")
        return await shown.get_by_test_id("message-content").all_inner_texts()

    async def answered(self, text: str, timeout: float = 30) -> None:
        await self.page.locator(
            "[data-testid=message][data-role=assistant][data-status=complete]", has_text=text
        ).wait_for(timeout=timeout * 1000)


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("EVERTURN_REQUIRE_BROWSER"):
            pytest.fail("no Chromium on this machine: apt-get install chromium")
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    if not (ROOT / "frontend/dist/index.html").is_file():
        pytest.fail("the page is not built: make page")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def context(chromium: Browser) -> AsyncIterator[BrowserContext]:
    context = await chromium.new_context(viewport={"width": 1280, "height": 820})
    yield context
    await context.close()


async def person(context: BrowserContext) -> Person:
    page = await context.new_page()
    somebody = Person(page)
    page.on(
        "console",
        lambda m: somebody.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: somebody.complaints.append(str(error)))
    page.on("request", lambda request: somebody.requests.append(request.url))
    return somebody


@pytest.fixture
async def ada(context: BrowserContext, system: System, team: Team) -> Person:
    """Ada, signed in on the first edge."""
    somebody = await person(context)
    await somebody.sign_in(system.edges[0].url, f"ada@{team.domain}")
    await somebody.live()
    return somebody


@pytest.fixture
async def grace(chromium: Browser, system: System, team: Team) -> AsyncIterator[Person]:
    """Grace, in a browser of her own, on the second edge."""
    context = await chromium.new_context(viewport={"width": 390, "height": 844})
    somebody = await person(context)
    await somebody.sign_in(system.edges[1].url, f"grace@{team.domain}")
    await somebody.live()
    yield somebody
    await context.close()
