"""The chat page off localhost, on phones, in right-to-left scripts, on paper, in forced colours, and when it fails."""

from __future__ import annotations

import importlib
import os

import pytest

playwright = (
    pytest.importorskip("playwright.sync_api")
    if not os.environ.get("CI")
    else importlib.import_module("playwright.sync_api")
)
expect = playwright.expect


@pytest.fixture
def named(serving):
    """A server under a name that is not localhost, over plain HTTP: no secure context."""
    return serving(
        "--engine", "scripted:?tokens=5", "--pace-interval", "0", "--hosts", "chat.test", "--hosts", "127.0.0.1"
    )


def test_it_works_over_plain_http_on_any_host(visit, named):
    one = visit(named)
    one.url = f"http://chat.test:{named.url.rpartition(':')[2]}"
    page = one.open()
    assert page.evaluate("window.isSecureContext") is False
    answer = one.ask("Hello")
    answer.hover()
    answer.locator("[aria-label=Copy]").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    page.reload()
    expect(page.locator(".mine .bubble")).to_have_text("Hello")
    page.fill("#search", "hello")
    expect(page.locator(".talks .open")).to_have_text("Hello")
    for path in ("/", "/status"):
        one.open(path)
    one.wrong[:] = [
        said for said in one.wrong if "Cross-Origin-Opener-Policy" not in said
    ]  # it needs HTTPS, and says so


@pytest.mark.parametrize("what", ["missing", "failing"])
def test_a_start_that_fails_says_so(visit, quick, what):
    one = visit(quick)

    def answer(route):
        if what == "missing":
            route.abort()
        else:
            route.fulfill(body="throw new Error('old browser')", content_type="text/javascript")

    one.page.route("**/js/chat/store.js", answer)
    one.page.goto(one.url + "/chat")
    expect(one.page.get_by_text("The chat could not start.")).to_be_visible()
    expect(one.page.get_by_role("link", name="The documentation")).to_be_visible()
    one.wrong.clear()  # that is what this was about


def test_text_of_either_direction_is_set_in_its_own(visit, echo):
    one = visit(echo)
    page = one.open()
    answer = one.ask("مرحبا بالعالم (hello) 123")
    style = "node => getComputedStyle(node).direction"
    assert page.locator(".mine .bubble").evaluate(style) == "rtl"
    assert answer.locator("standpipe-prose p").evaluate(style) == "rtl"
    assert page.locator(".talks .open").evaluate(style) == "rtl"
    answer = one.ask("1. שלום\n2. hello\n\n| שם | name |\n|---|---|\n| דוד | David |\n\nEnglish again.")
    assert [item.evaluate(style) for item in answer.locator("li").all()] == ["rtl", "ltr"]
    assert [cell.evaluate(style) for cell in answer.locator("td").all()] == ["rtl", "ltr"]
    assert answer.locator("standpipe-prose p").last.evaluate(style) == "ltr"
    page.fill("#draft", "مرحبا")
    assert page.locator("#draft").evaluate(style) == "rtl"
    assert page.locator("html").evaluate(style) == "ltr"


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_fingers_find_targets_of_44_pixels(visit, quick):
    one = visit(quick, **PHONE)
    page = one.open()
    page.fill("#draft", "Hello")
    page.tap("[aria-label=Send]")
    one.answered()
    small = """[...document.querySelectorAll('.stage button, .stage a')].filter((node) => node.checkVisibility())
      .map((node) => [node.ariaLabel || node.textContent.trim(), node.getBoundingClientRect()])
      .filter(([, { width, height }]) => width < 44 || height < 44).map(([name]) => name)"""
    assert page.evaluate(small) == []
    page.tap("button[aria-label=Conversations]")
    page.locator(".history[data-open]").wait_for()
    assert page.evaluate(small.replace(".stage", ".history")) == []


def test_printing_shows_the_whole_conversation_and_nothing_else(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("About rivers")
    one.ask("About lakes")
    page.emulate_media(media="print")
    for shown in (".mine >> nth=0", ".answer >> nth=1"):
        expect(page.locator(shown)).to_be_visible()
    for hidden in (".history", ".bar", ".dock", ".tools >> nth=0"):
        expect(page.locator(hidden)).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.getElementById('talk')).overflowY") == "visible"
    heights = page.evaluate("[document.body.scrollHeight, document.getElementById('talk').scrollHeight]")
    assert heights[0] >= heights[1] > 0


def test_forced_colours_keep_what_colour_alone_would_say(visit, quick):
    one = visit(quick, forced_colors="active")
    page = one.open()
    one.ask("Hello")
    for part in (".mine .bubble", ".live .dot", ".round"):
        assert page.locator(part).evaluate("node => getComputedStyle(node).borderTopWidth") == "1px", part


def test_there_is_a_heading_and_a_way_around_the_list(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("About rivers")
    expect(page.get_by_role("heading", level=1)).to_have_text("About rivers")
    assert page.evaluate("document.querySelector('a, button, input').className") == "skip"
    page.get_by_role("link", name="Skip to the message box").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#draft")).to_be_focused()


def test_keys_reach_code_that_scrolls(visit, echo):
    one = visit(echo)
    answer = one.ask("```\n" + "long " * 100 + "\n```") if one.open() else None
    expect(answer.locator("pre")).to_have_attribute("tabindex", "0")


def test_a_wait_that_was_told_is_waited_out_until_somebody_cancels(visit, serving):
    """More often than any client would try again, and never at one instant for all."""
    one = visit(serving("--engine", "scripted:?tokens=5", "--pace-interval", "0"))
    page = one.open()
    tries = []

    def refuse(route):
        if route.request.method != "POST":
            return route.continue_()
        tries.append(1)
        headers = {"retry-after-ms": "20", "content-type": "application/json"}
        return route.fulfill(status=503, headers=headers, body='{"error":{"message":"Full."}}')

    page.route("**/api", refuse)
    answer = one.ask("Hello", wait=False)
    for _ in range(100):
        if len(tries) > 8:
            break
        page.wait_for_timeout(50)
    assert len(tries) > 8
    answer.get_by_role("button", name="Cancel").click()
    expect(page.locator("button[aria-label=Send]")).to_be_visible()
    done = len(tries)
    page.wait_for_timeout(200)
    assert len(tries) <= done + 1
