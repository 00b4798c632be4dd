"""The pages that are read, in a real browser: documentation, status, privacy; with scripts and without."""

from __future__ import annotations

import importlib
import os
import re

import pytest

playwright = (
    pytest.importorskip("playwright.sync_api")
    if not os.environ.get("CI")
    else importlib.import_module("playwright.sync_api")
)
expect = playwright.expect


def test_one_choice_of_language_holds_for_every_sample_and_is_remembered(visit, quick):
    one = visit(quick)
    page = one.open("/")
    page.get_by_role("tab", name="JavaScript", exact=True).first.click()
    shown = page.locator(".samples section:visible").evaluate_all("all => all.map((one) => one.dataset.sample)")
    assert set(shown) <= {"fetch", "stream"}
    page.reload()
    again = page.locator(".samples section:visible").evaluate_all("all => all.map((one) => one.dataset.sample)")
    assert again == shown
    page.get_by_role("tab", name="Ollama").click()
    others = page.locator(".samples section:visible").evaluate_all("all => all.map((one) => one.dataset.sample)")
    assert others[0] == "ollama"
    assert set(others[1:]) == {"requests"}
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Anthropic")).to_be_focused()
    expect(page.get_by_role("tab", name="Anthropic")).to_have_attribute("aria-selected", "true")


def test_run_streams_the_answer_in_place(visit, quick):
    one = visit(quick)
    page = one.open("/")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".output .told")).to_have_text(re.compile(r"\d+ tokens · .* tokens/s"))
    assert len(page.locator(".output .said").inner_text().split()) == 60


def test_samples_are_copied_with_the_address_under_which_the_page_was_reached(visit, quick):
    one = visit(quick, permissions=["clipboard-read", "clipboard-write"])
    one.url = quick.url.replace("127.0.0.1", "localhost")
    page = one.open("/")
    page.locator("[data-copy-shown]").first.click()
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"curl {one.url}/api")


def test_the_state_of_the_tap_is_told(visit, quick):
    page = visit(quick).open("/")
    expect(page.locator("#state [data-model]")).to_have_text("gpt-oss:latest")
    expect(page.locator("#state .dot")).to_have_attribute("data-up", "")


@pytest.mark.parametrize("path", ["/", "/status", "/privacy"])
def test_pages_can_be_read_without_scripts(visit, quick, path):
    page = visit(quick, java_script_enabled=False).open(path)
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("[data-theme-toggle]")).to_be_hidden()
    for sample in page.locator("[data-sample]").all():
        expect(sample).to_be_visible()
    assert page.locator("table").first.is_visible() or path == "/privacy"


def test_the_chat_page_says_what_to_do_without_scripts(visit, quick):
    one = visit(quick, java_script_enabled=False)
    one.page.goto(one.url + "/chat")
    expect(one.page.get_by_text("The chat needs JavaScript.")).to_be_visible()


def test_the_status_page_is_live(visit, quick):
    one = visit(quick)
    page = one.open("/status")
    expect(page.locator("#headline")).to_have_text("Standpipe is up")
    expect(page.locator("figure")).to_have_count(5)
    expect(page.locator("figure small").first).to_contain_text("peak")
    before = page.locator("#rows tr").first.inner_text()
    other = visit(quick)
    other.open()
    other.ask("Count me")
    expect(page.locator("#rows tr").first).not_to_have_text(before)
    assert page.locator(".area.solid").first.get_attribute("d")


def test_examples_open_in_the_chat_page(visit, quick):
    one = visit(quick)
    page = one.open("/")
    page.get_by_text("What should I cook tonight").click()
    page.wait_for_url("**/chat*")
    expect(page.locator("#draft")).to_have_value("What should I cook tonight with eggs and rice?")


@pytest.mark.parametrize("path", ["/", "/status", "/privacy", "/chat"])
def test_pages_fit_any_window_and_name_their_controls(visit, quick, path):
    page = visit(quick).open(path)
    for width in (1280, 768, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1:visible").count() == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, a, input, select, textarea, summary, [role=tab]')].filter((node) =>"
        "!(node.hidden || node.getAttribute('aria-label') || node.labels?.length || node.textContent.trim()"
        "|| node.ariaHidden)).map((node) => node.outerHTML)"
    )
    assert unnamed == []
    assert page.evaluate("document.documentElement.lang") == "en"


SHIFTS = """new PerformanceObserver((list) => {
  window.shifted ??= 0;
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: 'layout-shift', buffered: true })"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/status", "/privacy", "/chat"])
def test_nothing_moves_while_a_page_comes(visit, quick, path, width):
    one = visit(quick, viewport={"width": width, "height": 844})
    one.context.add_init_script(SHIFTS)
    page = one.open(path)
    page.wait_for_timeout(1500)  # for scripts and what they fetch: there is no event for "nothing more will move"
    assert page.evaluate("window.shifted ?? 0") < 0.1


def test_a_page_for_what_is_not_there_leads_on(visit, quick):
    one = visit(quick)
    page = one.page
    page.goto(one.url + "/a/deep/place")
    expect(page.get_by_role("heading", level=1)).to_have_text("Page not found")
    page.get_by_role("link", name="Open the chat").click()
    page.wait_for_selector(".live .dot[data-up]")
    assert page.url == one.url + "/chat"


def test_every_page_works_below_a_path(visit, quick, behind):
    """A proxy that serves us below a path needs to tell us nothing."""
    one = visit(quick, permissions=["clipboard-read", "clipboard-write"])
    one.url = behind(quick.url, "/any/prefix")
    page = one.open("/")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".output .told")).to_contain_text("tokens/s")
    page.locator("[data-copy-shown]").first.click()
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"curl {one.url}/api")
    page.get_by_role("link", name="Status").first.click()
    expect(page.locator("#headline")).to_have_text("Standpipe is up")
    expect(page.locator("figure small").first).to_contain_text("peak")
    page.get_by_role("link", name="Chat", exact=True).click()
    page.wait_for_selector(".live .dot[data-up]")
    one.ask("Hello")
    page.click("[aria-label=API]")
    expect(page.locator("#copy-as-code")).to_contain_text(f"{one.url}/api")
    page.goto(one.url + "/nowhere")
    page.get_by_role("link", name="Docs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Standpipe")
    assert page.url == one.url + "/"
