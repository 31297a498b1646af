"""The page in a real browser: Chromium without a window, against the service in a process of its own."""

import os
import re
import shutil
from contextlib import contextmanager

import pytest

from tests.serving.program import program

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = os.environ.get("STOREREC_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no chromium (apt-get install chromium, or STOREREC_CHROMIUM)", allow_module_level=True)

expect = playwright.expect
KEY = "0123456789abcdef-key"
VIEWS = ("lists", "map", "add", "codes", "evaluation")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def url(trained, tmp_path_factory):
    """A service that tests may add to, and take from what they added."""
    place = tmp_path_factory.mktemp("browsed") / "bundle"
    shutil.copytree(trained, place)
    with program(place, "--max-wait-ms", 0) as running:
        yield running.url


@contextmanager
def opened(browser, url, *, faults=(), **settings):
    """A page of a browser of its own, which must ask no other host and complain of nothing but ``faults``."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | settings)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda one: said.append(str(one)))
    page.on("request", lambda one: asked.append(one.url))
    page.set_default_timeout(15_000)
    try:
        page.goto(url)
        yield page
        assert [one for one in said if not any(part in one for part in faults)] == []
        host = url.partition("#")[0]
        assert all(one.startswith(host) for one in asked)
    finally:
        context.close()


def tab_to(page, label):
    """Press Tab until what has the focus is called so."""
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText ?? ''")
        if re.match(label, name.strip()):
            return
    raise AssertionError(f"Tab never comes to {label}")


def history(page):
    return [one.strip() for one in page.locator(".history li .title").all_inner_texts()]


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_by_keyboard_alone_from_search_to_why(browser, url):
    with opened(browser, url) as page:
        expect(page.locator(".recommended > li")).to_have_count(10)
        page.keyboard.press("/")
        page.keyboard.type("SHOES number")
        expect(page.get_by_text("8 items found")).to_be_visible()
        page.keyboard.press("Enter")  # the first
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")  # the second
        assert history(page) == ["red shoes number 0", "red shoes number 3"]
        tab_to(page, "Move red shoes number 3 up")
        page.keyboard.press("Enter")
        assert history(page) == ["red shoes number 3", "red shoes number 0"]
        page.keyboard.press("Alt+ArrowDown")  # the focus went along
        assert history(page) == ["red shoes number 0", "red shoes number 3"]
        expect(page.get_by_text("10 items after 2 items of history.")).to_be_visible()
        rows = page.locator(".recommended > li")
        expect(rows).to_have_count(10)
        assert not {"red shoes number 0", "red shoes number 3"} & set(page.locator(".item .title").all_inner_texts())
        assert all(re.fullmatch(r"(< )?[\d.]+%", one) for one in page.locator(".item .number").all_inner_texts())
        tab_to(page, "Why ")
        page.keyboard.press("Enter")
        expect(page.locator(".path > li")).to_have_count(3)
        assert page.locator(".path .taken, .path .only").count() == 3
        assert "number" in page.locator(".path .meaning").first.inner_text()
        assert "%" in page.locator(".path .number").first.inner_text()
        tab_to(page, "Add ")
        page.keyboard.press("Enter")
        expect(page.locator(".history li")).to_have_count(3)
        page.locator(".history [data-does=drop]").last.focus()
        page.keyboard.press("Delete")
        page.keyboard.press("Delete")
        page.keyboard.press("Delete")
        expect(page.locator(".history li")).to_have_count(0)
        assert page.evaluate("document.activeElement.id") == "search"


def test_enter_before_the_answer_adds_what_is_found_then(browser, url):
    with opened(browser, url) as page:
        page.get_by_label("Search for items").fill("red shoes number 2")
        page.keyboard.press("Enter")
        expect(page.locator(".history li")).to_have_count(1)
        assert history(page) == ["red shoes number 21"]


def test_an_item_opens_with_its_text_codes_and_neighbours(browser, url):
    with opened(browser, url) as page:
        page.locator(".item .title").first.focus()
        title = page.locator(".item .title").first.inner_text()
        page.keyboard.press("Enter")
        panel = page.locator("aside.panel")
        expect(panel.get_by_role("heading", name=title)).to_be_focused()
        expect(panel.locator(".facts dd").first).to_have_text(title)
        expect(panel.locator(".rows li")).to_have_count(8)
        assert re.search(r"same codes|\d of 3 differ", panel.locator(".rows li").first.inner_text())
        panel.get_by_role("button", name="How likely is it").click()
        expect(panel.locator(".path > li")).to_have_count(3)
        page.keyboard.press("Escape")
        expect(panel).to_have_count(0)
        assert page.evaluate("document.activeElement.innerText") == title


def test_the_list_obeys_its_settings(browser, url):
    with opened(browser, url) as page:
        page.get_by_label("Length").select_option("5")
        expect(page.locator(".recommended > li")).to_have_count(5)
        page.get_by_label("Only where").select_option("kind")
        page.get_by_label("is", exact=True).fill("blue hats")
        page.keyboard.press("Tab")
        expect(page.locator(".item .title", has_not_text="blue hats")).to_have_count(0)
        expect(page.locator(".item .title", has_text="blue hats")).to_have_count(5)
        page.get_by_label("is", exact=True).fill("of no such kind")
        page.keyboard.press("Tab")
        expect(page.get_by_text("No item matches the filter.")).to_be_visible()


def test_an_item_added_in_the_form_is_in_a_list_at_once_goes_and_comes_back(browser, url):
    title = "<img src=x onerror=alert(1)> & 'quoted'"
    with opened(browser, url) as page:
        page.get_by_role("link", name="Add", exact=True).click()
        page.get_by_label("Id").fill("browser/1")
        page.get_by_label("title").fill(title)
        page.get_by_label("kind").fill("red shoes")
        page.keyboard.press("Enter")
        card = page.locator(".cards > li")
        expect(card).to_contain_text("It is new.")
        expect(card.locator(".title")).to_have_text(title)
        expect(card).to_contain_text("its nearest by codes, it is")
        expect(card.locator(".listed .taken")).to_have_text(title)
        expect(page.locator("header")).to_contain_text("25 items")
        card.get_by_role("button", name="Take these as history").click()
        expect(page.locator(".history li")).to_have_count(3)
        page.get_by_label("Length").select_option("50")
        row = page.locator(".recommended > li", has_text=title)
        expect(row).to_contain_text("new")
        row.locator(".title").click()
        panel = page.locator("aside.panel")
        panel.get_by_role("button", name="Take out of all lists").click()
        panel.get_by_role("button", name="Yes, for everybody").click()
        expect(row).to_have_count(0)
        expect(page.locator("header")).to_contain_text("24 items")
        panel.get_by_role("button", name="Put").click()
        expect(row).to_have_count(1)
        assert page.locator("img").count() == 0  # titles are text


def test_the_map_adds_by_click_and_by_keyboard(browser, url):
    with opened(browser, f"{url}/#map") as page:
        canvas = page.locator("canvas")
        expect(page.locator(".legend li").first).to_be_visible()
        canvas.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".tip")).to_be_visible()
        first = page.locator(".tip strong").inner_text()
        page.keyboard.press("Enter")
        assert history(page) == [first]
        box, tip = canvas.bounding_box(), page.locator(".tip")
        place = tip.evaluate("(one) => [parseFloat(one.style.left), parseFloat(one.style.top)]")
        page.keyboard.press("Escape")
        expect(tip).to_have_count(0)
        page.mouse.move(box["x"] + place[0] + 1, box["y"] + place[1] + 2)
        expect(tip).to_be_visible()
        page.mouse.down()
        page.mouse.up()
        expect(page.locator(".history li")).to_have_count(2)
        for key in ("+", "+", "-", "0"):
            page.keyboard.press(key)
        page.get_by_label("Colour by").select_option("akind")
        expect(page.locator(".legend li")).to_have_count(3)
        page.locator(".legend button").first.click()
        expect(page.locator(".legend button").first).to_have_attribute("aria-pressed", "true")
        page.get_by_text("The map as a list").click()
        expect(page.locator("details li").first).to_be_visible()


def test_codes_and_evaluation_are_told(browser, url):
    with opened(browser, f"{url}/#codes") as page:
        expect(page.locator(".positions article")).to_have_count(3)
        page.get_by_role("link", name="Evaluation").click()
        expect(page.get_by_text("There are no figures here.")).to_be_visible()


def test_light_and_dark_follow_the_system_and_the_choice(browser, url):
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, url, color_scheme="light") as page:
        light = page.evaluate(paper)
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(paper)
        assert light != dark
        page.get_by_role("button", name="Colours: system").click()
        assert page.evaluate(paper) == light
        page.reload()
        assert page.evaluate(paper) == light
        page.get_by_role("button", name="Colours: light").click()
        page.emulate_media(color_scheme="light")
        assert page.evaluate(paper) == dark


def test_a_phone_needs_no_sideways_scrolling(browser, url):
    with opened(browser, url, viewport=PHONE, has_touch=True, color_scheme="dark") as page:
        page.get_by_label("Search for items").fill("number")
        page.locator(".found .small").first.click()
        page.locator(".recommended [aria-expanded]").first.click()
        expect(page.locator(".path > li")).to_have_count(3)
        assert fits(page)
        for view in VIEWS:
            page.goto(f"{url}/#{view}")
            expect(page.locator(".view h2")).to_be_visible()
            assert fits(page), view
        page.goto(f"{url}/#lists")
        page.locator(".item .title").first.click()
        expect(page.locator("aside.panel h3")).to_be_visible()
        assert fits(page)
        sizes = page.locator("aside.panel button.small, aside.panel button.icon").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 36  # wide enough for a finger


def test_a_finger_sees_what_it_adds_on_the_map(browser, url):
    with opened(browser, f"{url}/#map", viewport=PHONE, has_touch=True) as page:
        canvas = page.locator("canvas")
        expect(page.locator(".legend li").first).to_be_visible()
        canvas.press("ArrowRight")
        tip = page.locator(".tip")
        place = tip.evaluate("(one) => [parseFloat(one.style.left), parseFloat(one.style.top)]")
        canvas.press("Escape")
        expect(tip).to_have_count(0)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        finger = (box["x"] + place[0] + 1, box["y"] + place[1] + 2)
        page.touchscreen.tap(*finger)
        title = page.locator(".tip strong").inner_text()
        expect(page.locator(".history li")).to_have_count(0)
        canvas.scroll_into_view_if_needed()
        page.touchscreen.tap(*finger)
        expect(page.locator(".history li")).to_have_count(1)
        assert history(page) == [title]


def test_a_key_is_asked_for_once(browser, folder):
    with (
        program(folder, "--max-wait-ms", 0, STOREREC_API_KEY=KEY) as running,
        opened(browser, running.url, faults=("401",)) as page,
    ):
        dialog = page.locator("dialog.key")
        expect(dialog).to_contain_text("have its key")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("refused this key")
        page.get_by_label("Key", exact=True).fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator(".recommended > li")).to_have_count(10)
        page.reload()
        expect(page.locator(".recommended > li")).to_have_count(10)
        expect(dialog).not_to_be_visible()
        assert page.evaluate("localStorage.length") == 0


def test_it_says_when_the_service_has_gone(browser, folder):
    with program(folder, "--max-wait-ms", 0) as running, opened(browser, running.url, faults=("ERR_",)) as page:
        expect(page.locator(".recommended > li")).to_have_count(10)
        running.process.kill()
        running.process.wait(10)
        page.get_by_label("Length").select_option("5")
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
