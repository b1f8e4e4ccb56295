"""The web page of a running stack in a real browser; needs a Chromium on the PATH."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from shortstack.plan import StackConfig
from shortstack.stack import Stack
from tests.cluster.browser import Complaints, find_chromium, open_browser
from tests.polling import poll_until

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]

PROMPT = "Once upon a time"
NUM_TOKENS = 40
NUM_CHOICES = 8
# Browser and stack may share two cores with others.
TIMEOUT_MS = 30_000
SESSIONS = "/v1/shortstack/sessions"
PINNED = {"exit_layer": 2, "max_draft_len": 3}


@pytest.fixture(scope="module")
def config(config: StackConfig) -> StackConfig:
    """The stack of all modules, with HTTP."""
    return replace(config, http="127.0.0.1:0")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    assert CHROMIUM is not None, "skipped without"
    expect.set_options(timeout=TIMEOUT_MS)
    async with open_browser(CHROMIUM) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(shared_stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the same HTTP face."""
    async with httpx2.AsyncClient(base_url=shared_stack.http_url, timeout=30.0) as http:
        yield http


@pytest.fixture
def complaints() -> Complaints:
    """What the page complains of."""
    return Complaints()


@pytest_asyncio.fixture(loop_scope="module")
async def page(
    browser: Browser, shared_stack: Stack, complaints: Complaints
) -> AsyncIterator[Page]:
    """The page in a context of its own; it must have nothing to complain of at the end."""
    context = await browser.new_context(viewport={"width": 1300, "height": 1000})
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    complaints.listen_to(page)
    await page.goto(shared_stack.page_url)
    yield page
    await context.close()
    assert complaints == []


async def ask(page: Page, **fields: object) -> None:
    """Fill the form and send it."""
    for name, value in fields.items():
        field = page.locator(f"#ask [name={name}]")
        if await field.evaluate("field => field.tagName") == "SELECT":
            await field.select_option(str(value))
        else:
            await field.fill(str(value))
    await page.click("#go")


async def sessions_of(api: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """Return all sessions, the youngest first."""
    answer = await api.get(SESSIONS, params={"with_ended": "true"})
    found: list[dict[str, Any]] = answer.json()["sessions"]
    return sorted(found, key=lambda session: session["age_ms"])


@pytest.mark.parametrize("temperature", [0, 0.8])
async def test_coloured_tokens_are_the_text_that_the_api_gives(
    page: Page, api: httpx2.AsyncClient, temperature: float
) -> None:
    body = {"prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": temperature, "seed": 2**63}
    wish = {"speculation": PINNED}
    told = (await api.post("/v1/completions", json=body | wish)).json()["choices"][0]
    await ask(page, **body, **PINNED, method="layerskip")
    await expect(page.locator(".finish")).to_have_text(told["finish_reason"])
    assert await page.locator(".answer").text_content() == told["text"]
    assert await page.locator(".prompt").text_content() == PROMPT
    tokens = page.locator(".answer .tok")
    kinds = {
        await tokens.nth(index).get_attribute("class") for index in range(await tokens.count())
    }
    assert {"tok plain", "tok recovered"} <= kinds
    assert kinds <= {f"tok {kind}" for kind in ("accepted", "recovered", "bonus", "plain")}
    figures = page.locator(".figures").first
    await expect(figures).to_contain_text("accepted (")
    await expect(figures).to_contain_text("tokens/s")
    # More digits than JavaScript's numbers have.
    await expect(figures).to_contain_text(f"seed {2**63}")


async def test_a_session_appears_in_the_table_and_its_timeline_is_drawn(
    page: Page, api: httpx2.AsyncClient
) -> None:
    await ask(page, prompt=PROMPT, max_tokens=NUM_TOKENS, temperature=0, **PINNED)
    await expect(page.locator(".finish")).to_be_visible()
    session_id = await session_of_answer(page)
    timeline = (await api.get(f"{SESSIONS}/{session_id}/timeline")).json()
    session = timeline["session"]
    row = page.locator("tbody tr", has=page.get_by_role("link", name=session_id))
    await expect(row).to_contain_text(session["reason"])
    cells = await row.locator("td").all_text_contents()
    # Its last round may have been cut to nothing by the limit.
    assert cells[2] in ("layerskip", "off")
    assert cells[9] == str(session["num_emitted"])
    await row.locator("td").first.click()
    await expect(page.locator("#timeline")).to_be_visible()
    await expect(row).to_have_class("ended selected")
    drafted = [length for length in timeline["rounds"]["draft_lens"] if length]
    await expect(page.locator("#chart .drafted")).to_have_attribute("d", lines_of(len(drafted)))
    # By keyboard: from the last round to the first.
    await page.focus("#chart")
    await page.keyboard.press("Home")
    first = timeline["rounds"]["round_indices"][0]
    await expect(page.locator("#round")).to_contain_text(f"round {first} · position")
    await page.click("#close-timeline")
    await expect(page.locator("#timeline")).to_be_hidden()


async def session_of_answer(page: Page) -> str:
    """Return the session that the answer shown links to."""
    link = await page.locator("#transcript a").get_attribute("href")
    return (link or "").removeprefix("#session=")


def lines_of(num_bars: int) -> re.Pattern[str]:
    """Return the pattern of a path of so many bars."""
    return re.compile(rf"^(M[^M]+z){{{num_bars}}}$")


async def test_task_shifts_are_marked(page: Page, api: httpx2.AsyncClient) -> None:
    async def with_two_shifts(route: Route) -> None:
        told = await (await route.fetch()).json()
        alarms = told["rounds"]["are_alarms"]
        told["rounds"]["are_alarms"] = [index in (1, 3) for index in range(len(alarms))]
        await route.fulfill(json=told)

    await page.route("**/timeline", with_two_shifts)
    session = (await sessions_of(api))[0]
    await page.get_by_role("link", name=session["session_id"]).click()
    # A head and a line for each.
    shift = re.compile(r"^(M[^M]+zM[^MV]+V[^MV]+){2}$")
    await expect(page.locator("#chart .alarm")).to_have_attribute("d", shift)


async def test_a_stopped_text_ends_its_session(page: Page, api: httpx2.AsyncClient) -> None:
    # Enough to do for it not to be at its end before the button is pressed, by the browser itself.
    async def ask_for_much(route: Route) -> None:
        body = json.loads(route.request.post_data or "") | {"n": NUM_CHOICES, "ignore_eos": True}
        await route.continue_(post_data=json.dumps(body))

    await page.route("**/v1/completions", ask_for_much)
    await page.evaluate(
        """() => new MutationObserver((_, observer) => {
            if (!document.querySelector(".answer .tok")) return;
            observer.disconnect();
            document.querySelector("#stop").click();
        }).observe(document.querySelector("#transcript"), { childList: true, subtree: true })"""
    )
    await ask(page, prompt=PROMPT, max_tokens=900, temperature=0, mode="off")
    await expect(page.locator(".finish")).to_have_text("stopped")
    await expect(page.locator("#go")).to_be_enabled()

    async def are_cancelled() -> bool:
        found = await sessions_of(api)
        is_over = all(session["has_ended"] for session in found)
        return is_over and bool(found[0]["finish_reason"] == "cancelled")

    # The list is of a moment ago. A session that was cancelled in its prompt is not in it.
    await poll_until(are_cancelled, timeout_s=20.0)
    assert (await sessions_of(api))[0]["num_emitted"] < 900


async def test_a_chat_goes_on_from_its_turns(page: Page) -> None:
    sent: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda request: sent.append(json.loads(request.post_data)) if request.post_data else None,
    )
    await page.check("#ask [value=chat]")
    await ask(page, prompt="Hello", max_tokens=8, temperature=0)
    await expect(page.locator(".finish")).to_have_count(1)
    await expect(page.locator("#ask [name=prompt]")).to_have_value("")
    await ask(page, prompt="<b>And then?</b>", max_tokens=8, temperature=0)
    await expect(page.locator(".finish")).to_have_count(2)
    answer = await page.locator(".answer").first.text_content()
    assert [turn["content"] for turn in sent[1]["messages"]] == [
        "Hello",
        answer,
        "<b>And then?</b>",
    ]
    # What looks like markup is text.
    assert await page.locator(".turn.user .text").last.text_content() == "<b>And then?</b>"


async def test_what_is_refused_is_said_where_it_was_asked(
    page: Page, complaints: Complaints
) -> None:
    await ask(page, prompt=PROMPT, max_tokens=5000)
    await expect(page.locator("#ask .error")).to_contain_text("max_tokens")
    await expect(page.locator(".turn")).to_have_count(0)
    await ask(page, max_tokens=4)
    await expect(page.locator("#ask .error")).to_be_hidden()
    # Browsers write every status from 400 on to the console.
    assert len(complaints) == 1 and "400" in complaints.pop()


async def test_a_key_is_sent_with_all_but_the_pages_own_files(page: Page) -> None:
    asked: dict[str, str | None] = {}
    page.on(
        "request", lambda request: asked.update({request.url: request.headers.get("authorization")})
    )
    await page.fill("#key", "secret-1")
    await page.keyboard.press("Tab")
    await poll_until(lambda: any("/sessions" in url for url in asked))
    assert await page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
    await page.reload()
    await expect(page.locator("#cell-cards .badge")).to_have_text("serving")
    await expect(page.locator("#key")).to_have_value("secret-1")
    for url, header in asked.items():
        assert header == ("Bearer secret-1" if "/v1/" in url else None), url


async def test_nothing_is_asked_while_nobody_looks(page: Page) -> None:
    await page.clock.install()
    await page.reload()
    await expect(page.locator("#cell-cards .badge")).to_have_text("serving")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.clock.run_for(1500)
    await poll_until(lambda: len(asked) >= 2)
    await look(page, is_hidden=True)
    await page.wait_for_load_state("networkidle")
    asked.clear()
    await page.clock.run_for(60_000)
    assert asked == []
    await look(page, is_hidden=False)
    await poll_until(lambda: len(asked) >= 2)


async def look(page: Page, *, is_hidden: bool) -> None:
    """Turn away from the page, or to it again."""
    await page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )
