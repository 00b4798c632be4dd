"""The chat page in a real browser: what a person does with it, and what a hostile model cannot do to it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

playwright = (
    pytest.importorskip("playwright.sync_api")
    if not os.environ.get("CI")
    else importlib.import_module("playwright.sync_api")
)
expect = playwright.expect
PAYLOADS = (Path(__file__).parent / "payloads.txt").read_text(encoding="utf-8").split("\n%%\n")


def text(place):
    return place.locator(".answer > standpipe-prose").inner_text()


def test_an_answer_streams_with_its_thoughts_and_its_figures(visit, serving):
    one = visit(
        serving("--engine", "scripted:?tokens=60&reasoning=60&rate=80&model=gpt-oss:latest", "--pace-interval", "0")
    )
    page = one.open()
    answer = one.ask("Hello there", wait=False)
    answer.locator(".thinking[open]").wait_for()
    assert answer.get_attribute("aria-busy") == "true"
    one.answered()
    assert answer.locator(".thinking").get_attribute("open") is None
    assert len(text(page).split()) == 60
    assert page.input_value("#draft") == ""
    facts = answer.locator(".facts").first.inner_text()
    assert re.search(r"120 tokens · [\d.,]+ tokens/s · first token after [\d.]+ s", facts), facts
    assert answer.locator(".facts.model").inner_text() == "gpt-oss:latest"
    one.until("document.getElementById('announcer').textContent === 'Answer complete.'")
    assert page.locator("#announcer").get_attribute("role") == "status"
    assert page.title() == "Hello there · Standpipe"


def test_escape_stops_the_answer_here_and_there(visit, slow):
    one = visit(slow)
    page = one.open()
    answer = one.ask("Go on for ever", wait=False)
    answer.locator("standpipe-prose p").wait_for()
    page.keyboard.press("Escape")
    answer.get_by_text("Stopped.").wait_for()
    kept = text(page)
    assert kept
    one.until("fetch('/api').then(r => r.json()).then(a => a.queue.running === 0)")
    assert text(page) == kept


def test_editing_and_asking_again_make_versions(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("First question")
    page.click("[aria-label=Regenerate]")
    answer = one.answered()
    assert answer.locator(".branches > span").inner_text() == "2/2"
    page.hover(".mine")
    page.click(".mine [aria-label=Edit]")
    page.fill("#edited", "Second question")
    page.keyboard.press("Enter")
    one.answered()
    mine = page.locator(".mine")
    assert mine.locator(".bubble").inner_text() == "Second question"
    mine.locator("[aria-label='Previous version']").click()
    page.get_by_text("First question").first.wait_for()
    assert page.locator(".answer .branches > span").inner_text() == "2/2"


def test_who_waits_sees_the_place_in_line(visit, slow):
    first, second = visit(slow), visit(slow)
    first.open()
    first.ask("Keep the slot", wait=False).locator("standpipe-prose p").wait_for()
    second.open()
    answer = second.ask("And now me", wait=False)
    answer.get_by_text("Position 1 in the queue").wait_for()
    second.page.get_by_text("1 queued").first.wait_for()
    first.page.keyboard.press("Escape")
    answer.locator("standpipe-prose p").wait_for()
    second.page.keyboard.press("Escape")
    answer.get_by_text("Stopped.").wait_for()


def test_parameters_reach_the_server(visit, quick):
    one = visit(quick)
    page = one.open()
    page.click("[aria-label=Settings]")
    expect(page.locator(".panel").get_by_text("default 0.8")).to_be_visible()
    page.fill("#parameter-temperature", "0.3")
    page.fill("#parameter-top_p", "5")
    page.get_by_label("Max tokens").fill("7")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Reasoning effort").select_option("low")
    page.get_by_label("Stream").uncheck()
    page.keyboard.press("Tab")
    with page.expect_request("**/api") as asked:
        answer = one.ask("Hello")
    body = asked.value.post_data_json
    assert body.pop("messages") == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert body == {"temperature": 0.3, "top_p": 1, "max_tokens": 7, "reasoning_effort": "low", "stream": False}
    expect(answer.get_by_text("The answer hit the length limit.")).to_be_visible()
    page.get_by_text("Reset to defaults").click()
    expect(page.locator("#parameter-temperature")).to_have_value("0.8")


@pytest.mark.parametrize(("kind", "command"), [("curl", ["sh"]), ("requests", [sys.executable, "-"])])
def test_copied_code_asks_exactly_this_conversation(visit, echo, kind, command):
    one = visit(echo, permissions=["clipboard-read", "clipboard-write"])
    page = one.open()
    said = 'It\'s "fine", $HOME and\na second line: é 🌊'
    one.ask(said.replace("\n", " "))
    page.fill("#draft", said)
    page.click("[aria-label=API]")
    page.get_by_label("Copy this conversation as").select_option(kind)
    page.locator(".panel .primary").click()
    code = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(command, input=code, capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(done.stdout)["choices"][0]["message"]["content"] if kind == "curl" else done.stdout.rstrip("\n")
    assert answer == said


def test_the_wire_is_shown_as_it_was(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("Show me")
    page.click("[aria-label=API]")
    assert '"content": "Show me"' in page.locator("pre[aria-label=Request]").inner_text()
    response = page.locator("pre[aria-label=Response]").inner_text()
    assert response.startswith("200")
    assert "x-request-id:" in response
    assert "data: [DONE]" in response


def test_a_reload_keeps_conversations_and_what_was_open(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("About rivers")
    page.click(".new")
    one.ask("About lakes")
    page.reload()
    page.get_by_role("article", name="You").get_by_text("About lakes").wait_for()
    expect(page.locator(".talks .open")).to_have_text(["About lakes", "About rivers"])
    page.fill("#search", "rivers")
    expect(page.locator(".talks .open")).to_have_text(["About rivers"])
    page.click(".talks .open")
    page.get_by_role("article", name="You").get_by_text("About rivers").wait_for()
    assert len(text(page).split()) == 60


def test_what_is_deleted_can_be_undone_once_and_all_after_a_question(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("About rivers")
    page.hover(".talks li")
    page.click("[aria-label='Delete About rivers']")
    page.get_by_text("Conversation deleted.").first.wait_for()
    expect(page.locator(".talks .open")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    page.locator(".talks .open").wait_for()
    page.get_by_role("button", name="Delete all").first.click()
    page.locator("#dialog").get_by_role("button", name="Delete all").click()
    page.get_by_text("Conversations are stored only in this browser. They").wait_for()
    page.reload()
    page.wait_for_selector(".live .dot[data-up]")
    assert page.locator(".talks .open").count() == 0


def test_conversations_leave_and_come_back_as_a_file(visit, quick, tmp_path):
    one = visit(quick)
    page = one.open()
    one.ask("About rivers")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "kept.json"
    saved.value.save_as(file)
    other = visit(quick)
    other.open()
    other.page.set_input_files("#import", file)
    other.page.get_by_role("article", name="You").get_by_text("About rivers").wait_for()
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "something else"}')
    other.page.set_input_files("#import", broken)
    other.page.get_by_text("is not an export from this chat page").first.wait_for()


def test_a_link_carries_the_conversation_and_no_server_sees_it(visit, quick):
    one = visit(quick, permissions=["clipboard-read", "clipboard-write"])
    page = one.open()
    one.ask("About rivers")
    page.click("[aria-label=Share]")
    page.get_by_text("Copy a link").click()
    page.get_by_text("Link copied.").first.wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert "#talk=" in link
    other = visit(quick)
    asked: list[str] = []
    other.page.on("request", lambda request: asked.append(request.url))
    other.page.goto(link)
    other.page.get_by_role("article", name="You").get_by_text("About rivers").wait_for()
    assert not any("talk" in url.partition("#")[0] for url in asked if "/api" in url)
    assert "#c=" in other.page.url


def test_a_question_may_come_with_the_address_but_is_not_sent(visit, quick):
    one = visit(quick)
    page = one.open("/chat#ask=Why%20is%20the%20sky%20blue%3F&temperature=0.2")
    one.until("document.getElementById('draft').value === 'Why is the sky blue?'")
    assert page.locator(".message").count() == 0
    page.click("[aria-label=Settings]")
    assert page.input_value("#parameter-temperature") == "0.2"


def test_a_refusal_counts_down_and_is_tried_again(visit, serving):
    server = serving("--engine", "scripted:?tokens=5", "--pace-interval", "2", "--pace-waiting", "0")
    one = visit(server)
    one.open()
    one.ask("One")
    answer = one.ask("Two", wait=False)
    answer.get_by_text(re.compile("Retrying in")).wait_for()
    one.answered()
    answer.locator("standpipe-prose p").wait_for()
    assert len(one.page.locator(".answer > standpipe-prose").last.inner_text().split()) == 5


def test_an_answer_that_breaks_off_says_so_and_can_be_asked_again(visit, serving):
    one = visit(serving("--engine", "scripted:?tokens=20&fault=cut:5&faults=1&rate=20", "--pace-interval", "0"))
    page = one.open()
    answer = one.ask("Hello")
    expect(answer.locator(".trouble p")).to_have_text("The engine failed in the middle of an answer.")
    assert 1 <= len(text(page).split()) <= 5
    answer.get_by_role("button", name="Try again").click()
    answer = one.answered()
    assert len(text(page).split()) == 20
    assert answer.locator(".branches > span").inner_text() == "2/2"


def test_the_reason_of_a_failure_reaches_the_browser_every_time(visit, serving):
    server = serving("--engine", "scripted:?tokens=20&fault=cut:3&faults=1000&slots=64", "--pace-interval", "0")
    page = visit(server).open("/robots.txt")
    lost = page.evaluate("""async () => {
      const one = async () => {
        const body = JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }] });
        const headers = { 'Content-Type': 'application/json' };
        const signal = AbortSignal.timeout(20000); // an answer that never ends is lost as well
        const answer = await fetch('/api', { method: 'POST', headers, body, signal });
        const reader = answer.body.getReader();
        let text = '';
        try {
          for (let part; !(part = await reader.read()).done; ) {
            text += new TextDecoder().decode(part.value);
            if (text.includes('"error"')) return void reader.cancel(); // its end comes only after a moment
          }
        } catch {
          // broken off
        }
        return `lost: ${text}`;
      };
      const found = [];
      for (let round = 0; round < 4; round += 1) found.push(await one()); // a fifth failure would open the breaker
      return found.filter((lost) => lost !== undefined);
    }""")
    assert lost == []


def test_a_wrong_question_is_told_in_words(visit, serving):
    one = visit(serving("--engine", "scripted:?tokens=5", "--pace-interval", "0", "--body-limit", "2048"))
    one.open()
    answer = one.ask("x" * 3000)
    expect(
        answer.locator(".trouble").get_by_text(re.compile("too long to send: 3 KiB, and the server takes 2 KiB"))
    ).to_be_visible()


def test_dark_is_chosen_and_remembered(visit, quick):
    one = visit(quick, color_scheme="light")
    page = one.open()
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.click("[data-theme-toggle]")
    assert page.evaluate(paper) == "rgb(16, 20, 23)"
    page.reload()
    assert page.evaluate(paper) == "rgb(16, 20, 23)"
    one.page.goto(one.url + "/")
    assert page.evaluate(paper) == "rgb(16, 20, 23)"


def test_a_phone_shows_one_thing_at_a_time(visit, quick):
    one = visit(quick, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = one.open()
    page.fill("#draft", "About")
    page.press("#draft", "Enter")
    assert page.input_value("#draft") == "About\n"
    page.fill("#draft", "About " + "w" * 200)
    page.tap("[aria-label=Send]")
    one.answered()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    history = page.locator(".history")
    expect(history).to_be_hidden()
    page.click("button[aria-label=Conversations]")
    page.locator(".talks .open").click()
    history.wait_for(state="hidden")
    page.click("[aria-label=Settings]")
    assert page.locator(".panel").bounding_box()["width"] == 390
    page.click("[aria-label=Close]")
    expect(page.locator(".panel")).to_have_count(0)


def test_everything_can_be_done_with_keys(visit, quick):
    one = visit(quick)
    page = one.open()
    assert page.evaluate("document.activeElement.id") == "draft"
    page.keyboard.press("?")
    expect(page.locator("#dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#dialog").wait_for(state="hidden")
    page.focus("#draft")
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    one.answered()
    assert page.locator(".bubble").inner_text() == "One\ntwo"
    page.focus("#draft")
    page.keyboard.press("ArrowUp")
    one.until("document.activeElement.id === 'edited'")
    page.keyboard.press("Escape")
    one.until("document.activeElement.id === 'draft'")
    page.keyboard.press("Control+k")
    one.until("document.activeElement.id === 'search'")
    page.keyboard.press("Control+Shift+O")
    page.locator(".welcome").wait_for()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
            )
        )
    assert {"Settings", "API", "New chat", "Export", "Import", "Documentation"} <= reached


def test_markdown_code_tables_and_formulas_are_shown(visit, echo):
    one = visit(echo)
    page = one.open()
    answer = one.ask(
        "# Title\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\ndef f(): pass\n```\n\nSo \\(x^2\\) it is."
    )
    answer.locator("math").wait_for()
    answer.locator(".hljs-keyword").first.wait_for()
    assert answer.locator("td[align=right]").inner_text() == "2"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer.locator("[data-copy]").click()
    assert page.evaluate("navigator.clipboard.readText()") == "def f(): pass"


def test_the_page_follows_the_answer_only_while_the_reader_is_at_its_end(visit, slow):
    one = visit(slow, viewport={"width": 600, "height": 400})
    page = one.open()
    answer = one.ask("Go on", wait=False)
    answer.locator("standpipe-prose p").wait_for()
    away = "(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight)"
    one.until("document.getElementById('talk').scrollHeight > document.getElementById('talk').clientHeight + 100")
    assert page.evaluate(f"{away}(document.getElementById('talk'))") < 2
    page.evaluate("document.getElementById('talk').scrollTop = 0")
    page.locator(".jump").wait_for()
    before = len(text(page))
    one.until(f"document.querySelector('.answer > standpipe-prose').textContent.length > {before + 20}")
    assert page.evaluate("document.getElementById('talk').scrollTop") == 0
    page.click(".jump")
    one.until(f"{away}(document.getElementById('talk')) < 2")
    page.keyboard.press("Escape")
    answer.get_by_text("Stopped.").wait_for()


def test_what_a_hostile_model_writes_is_inert(visit, quick, tmp_path):
    """Each payload is a whole answer, and as one that streams; nothing runs, nothing loads, nothing leads elsewhere."""
    nodes, children, parent = {}, {}, ""
    for index, payload in enumerate(PAYLOADS):
        name = f"n{index}"
        nodes[name] = {
            "id": name,
            "parent": parent,
            "role": "assistant",
            "text": payload,
            "reasoning": payload,
            "at": 1,
        }
        children[parent] = [name]
        parent = name
    talk = {"title": PAYLOADS[0], "tree": {"nodes": nodes, "children": children, "chosen": {}}}
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps({"format": "standpipe.conversations", "version": 1, "conversations": [talk]}))
    one = visit(quick)
    page = one.open()
    page.set_input_files("#import", file)
    one.until(f"document.querySelectorAll('.answer').length === {len(PAYLOADS)}")
    one.until("document.querySelectorAll('standpipe-prose > *').length > 10")
    check_inert(page)


def test_what_a_hostile_model_streams_is_inert(visit, echo):
    one = visit(echo)
    page = one.open()
    one.ask("\n\n".join(PAYLOADS))
    check_inert(page)
    assert page.evaluate("window.pwned") is None


def check_inert(page):
    expect(
        page.locator("#talk standpipe-prose").get_by_text("<script>window.pwned = 1</script>").first
    ).to_be_attached()
    page.wait_for_timeout(300)  # for whatever would load or run by itself
    assert page.evaluate("window.pwned") is None
    ours = ".code-bar, .code-bar *"  # no model can write one: classes of its own are taken away
    inside = f"document.querySelectorAll('#talk standpipe-prose *:not({ours})')"
    outside = "[...document.querySelectorAll('#talk .code-bar')].every((bar) => bar.parentNode.className === 'code')"
    assert page.evaluate(outside)
    names = set(page.evaluate(f"[...{inside}].map((node) => node.nodeName.toLowerCase())"))
    assert not names & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "input",
        "style",
        "link",
        "svg",
        "video",
        "audio",
        "base",
        "meta",
    }
    attributes = set(page.evaluate(f"[...{inside}].flatMap((node) => node.getAttributeNames())"))
    assert not {
        name for name in attributes if name.startswith("on") or name in {"srcdoc", "src", "formaction", "id", "name"}
    }
    for link in page.evaluate(
        "[...document.querySelectorAll('#talk standpipe-prose a')].map((a) => [a.getAttribute('href'), a.rel])"
    ):
        assert link[0] is None or re.match(r"(https?://|mailto:)", link[0]), link
        assert "noopener" in link[1]


def test_a_first_look_is_light_and_quick(visit, quick):
    one = visit(quick)
    page = one.open()
    spent = page.evaluate(
        "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
        ".filter((entry) => !new URL(entry.name).pathname.startsWith('/api'))"
        ".reduce((sum, entry) => sum + entry.transferSize, 0)"
    )
    assert 20_000 < spent <= 60_000


def test_two_hundred_tokens_a_second_cost_one_render_a_frame(visit, serving):
    one = visit(serving("--engine", "scripted:?tokens=400&rate=400", "--pace-interval", "0"))
    page = one.open()
    page.evaluate(
        "() => { window.renders = 0; window.frames = 0;"
        "const count = () => { window.frames += 1; requestAnimationFrame(count); }; requestAnimationFrame(count);"
        "new MutationObserver(() => { window.renders += 1; }).observe(document.getElementById('app'), "
        "{subtree: true, childList: true, characterData: true}); }"
    )
    one.ask("Hello")
    renders, frames = page.evaluate("[window.renders, window.frames]")
    assert renders <= frames + 12
