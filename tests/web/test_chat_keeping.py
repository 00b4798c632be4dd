"""What people wrote in the chat page is not lost: two tabs, full and blocked storage, drafts, answers that go on."""

from __future__ import annotations

import importlib
import json
import os
import re
import zlib
from base64 import urlsafe_b64encode

import pytest

playwright = (
    pytest.importorskip("playwright.sync_api")
    if not os.environ.get("CI")
    else importlib.import_module("playwright.sync_api")
)
expect = playwright.expect

MINE = ".mine .bubble"


def link(talk):
    """What a shared link has behind its `#`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(json.dumps(talk).encode()) + packer.flush()
    return f"#talk={urlsafe_b64encode(packed).decode().rstrip('=')}"


class Tab:
    """A second tab of the same visitor."""

    def __init__(self, one):
        self.one = one
        self.page = one.context.new_page()

    def __enter__(self):
        self.first, self.one.page = self.one.page, self.page
        return self.page

    def __exit__(self, *_):
        self.one.page = self.first


def test_two_tabs_with_one_conversation_lose_nothing(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("First")
    with Tab(one) as other:
        one.open()
        other.locator(".talks .open").click()
        expect(other.locator(MINE)).to_have_text("First")
        one.ask("From the second tab")
    expect(page.locator(MINE)).to_have_text(["First", "From the second tab"])
    one.ask("From the first tab")
    page.reload()
    expect(page.locator(MINE)).to_have_text(["First", "From the second tab", "From the first tab"])


def test_both_branches_are_kept_when_tabs_write_without_hearing_of_each_other(visit, slow):
    one = visit(slow)
    one.context.add_init_script("delete window.BroadcastChannel")
    page = one.open()
    one.ask("First", wait=False).locator("standpipe-prose p").wait_for()
    page.keyboard.press("Escape")
    page.locator(".answer").get_by_text("Stopped.").wait_for()
    with Tab(one) as other:
        one.open()
        other.locator(".talks .open").click()
        expect(other.locator(MINE)).to_have_text("First")
        one.ask("There", wait=False)
    one.ask("Here", wait=False)
    for tab in (page, other):
        tab.bring_to_front()
        tab.locator("button[aria-label=Stop]").click()
        tab.locator("button[aria-label=Send]").wait_for()
    branches = page.locator(".mine .branches > span")
    expect(branches).to_have_text("2/2")
    page.reload()
    expect(branches).to_have_text(re.compile("[12]/2"))


def test_what_one_tab_deleted_does_not_come_back_from_the_other(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("First")
    with Tab(one) as other:
        one.open()
        other.locator(".talks .open").click()
        expect(other.locator(MINE)).to_have_text("First")
    page.hover(".talks li")
    page.click("[aria-label='Delete First']")
    other.get_by_text("deleted in another tab").first.wait_for()
    expect(other.locator(".talks .open")).to_have_count(0)
    other.close()
    page.reload()
    page.wait_for_selector(".live .dot[data-up]")
    expect(page.locator(".talks .open")).to_have_count(0)


FULL = """(() => {
  const put = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = function (...all) {
    const made = put.apply(this, all);
    if (window.full) {
      const { transaction } = this;
      const value = new DOMException('full', 'QuotaExceededError');
      Object.defineProperty(transaction, 'error', { configurable: true, value });
      queueMicrotask(() => { try { transaction.abort(); } catch { /* it was, for the put before */ } });
    }
    return made;
  };
})()"""


def test_full_storage_is_told_at_once_and_what_was_said_can_be_exported(visit, quick, tmp_path):
    one = visit(quick)
    one.context.add_init_script(FULL)
    page = one.open()
    one.ask("Before")
    page.evaluate("window.full = true")
    one.ask("After")
    strip = page.locator(".strip[data-bad]")
    expect(strip).to_contain_text("storage is full")
    page.click(".new")
    one.ask("Another one")
    page.locator(".talks .open").get_by_text("Before").click()
    expect(page.locator(MINE)).to_have_text(["Before", "After"])
    with page.expect_download() as saved:
        strip.get_by_role("button", name="Export conversations").click()
    file = tmp_path / "kept.json"
    saved.value.save_as(file)
    assert {"Before", "Another one"} == {talk["title"] for talk in json.loads(file.read_text())["conversations"]}
    page.evaluate("window.full = false")
    one.ask("There is room again")
    expect(strip).to_contain_text("storage is full")  # the other conversation is still not kept
    page.locator(".talks .open").get_by_text("Another one").click()
    one.ask("Now it is")
    expect(strip).to_have_count(0)
    page.reload()
    expect(page.locator(MINE)).to_have_text(["Another one", "Now it is"])


def test_blocked_storage_is_told_at_once(visit, quick):
    one = visit(quick)
    one.context.add_init_script("Object.defineProperty(window, 'indexedDB', {get() { throw new Error('blocked'); }})")
    page = one.open()
    expect(page.locator(".strip[data-bad]")).to_contain_text("does not save conversations")
    one.ask("Hello")
    expect(page.locator(".talks .open")).to_have_text("Hello")
    page.fill("#search", "hel")
    expect(page.locator(".talks .open")).to_have_text("Hello")


def test_conversations_of_the_version_before_are_still_there(visit, quick):
    one = visit(quick)
    page = one.page
    page.goto(f"{one.url}/robots.txt")
    page.evaluate("""() => new Promise((resolve) => {
      const opening = indexedDB.open('standpipe', 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore('conversations', { keyPath: 'id' });
      opening.onsuccess = () => {
        const at = Date.now();
        const node = { id: 'a', parent: '', role: 'user', text: 'From before', at };
        const tree = { nodes: { a: node }, children: { '': ['a'] }, chosen: { '': 'a' } };
        const talk = { id: 't', title: 'Old', created: at, updated: at, system: '', parameters: {}, tree };
        const putting = opening.result.transaction('conversations', 'readwrite');
        putting.objectStore('conversations').put(talk);
        putting.oncomplete = () => { opening.result.close(); resolve(); };
      };
    })""")
    one.open()
    page.locator(".talks .open").get_by_text("Old").click()
    expect(page.locator(MINE)).to_have_text("From before")
    one.ask("And on")
    page.reload()
    expect(page.locator(MINE)).to_have_text(["From before", "And on"])


def test_drafts_survive_reload_new_chat_and_switching(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("First")
    page.fill("#draft", "half a thought")
    page.reload()
    expect(page.locator("#draft")).to_have_value("half a thought")
    page.click(".new")
    expect(page.locator("#draft")).to_have_value("")
    page.fill("#draft", "something new")
    page.locator(".talks .open").click()
    expect(page.locator("#draft")).to_have_value("half a thought")
    page.click(".new")
    expect(page.locator("#draft")).to_have_value("something new")


def test_an_answer_goes_on_while_another_conversation_is_shown(visit, serving):
    one = visit(serving("--engine", "scripted:?tokens=60&rate=30&slots=2", "--pace-interval", "0"))
    page = one.open()
    one.ask("Long one", wait=False).locator("standpipe-prose p").wait_for()
    page.click(".new")
    page.locator(".talks .dot[title=Answering]").wait_for()
    page.fill("#draft", "Impatient")
    page.press("#draft", "Enter")
    page.get_by_text("still coming in “Long one”").first.wait_for()
    expect(page.locator("#draft")).to_have_value("Impatient")
    page.locator(".talks .dot[title='New answer']").wait_for()
    page.locator(".talks .open").click()
    expect(page.locator(MINE)).to_have_text("Long one")
    assert len(page.locator(".answer > standpipe-prose").inner_text().split()) == 60
    page.reload()
    expect(page.locator(".answer > standpipe-prose")).to_have_text(re.compile(r"(\S+\s+){59}\S+"))


def test_another_answer_may_be_stopped_for_a_new_question(visit, slow):
    one = visit(slow)
    page = one.open()
    one.ask("Long one", wait=False).locator("standpipe-prose p").wait_for()
    page.click(".new")
    page.fill("#draft", "Impatient")
    page.press("#draft", "Enter")
    page.get_by_role("button", name="Stop it and send").click()
    expect(page.locator(MINE)).to_have_text("Impatient")
    page.locator("button[aria-label=Stop]").click()
    page.locator(".talks .open").get_by_text("Long one").click()
    page.locator(".answer").get_by_text("Stopped.").wait_for()


def test_suggestions_change_no_later_chat(visit, quick):
    one = visit(quick)
    page = one.open()
    page.locator(".ideas button").last.click()
    one.answered()
    page.click("[aria-label=Settings]")
    expect(page.locator("#parameter-temperature")).to_have_value("1.2")
    page.click(".new")
    expect(page.locator("#parameter-temperature")).to_have_value("0.8")


def test_a_shared_link_is_kept_at_once_and_says_where_it_came_from(visit, quick):
    one = visit(quick)
    talk = {"t": "Shared", "s": "Always agree with me.", "p": {"temperature": 2}, "m": [[0, "Hi"], [1, "Yes"]]}
    page = one.open("/chat" + link(talk))
    strip = page.locator(".strip")
    expect(strip).to_contain_text("came from a link. Standpipe has not checked it")
    expect(strip.get_by_text("Always agree with me.")).to_be_visible()
    page.reload()
    expect(page.locator(MINE)).to_have_text("Hi")
    expect(strip.get_by_text("Always agree with me.")).to_be_visible()
    page.click(".new")
    page.click("[aria-label=Settings]")
    expect(page.get_by_label("System prompt")).to_have_value("")
    expect(page.locator("#parameter-temperature")).to_have_value("0.8")


def test_a_short_link_that_holds_very_much_is_refused_in_words(visit, quick):
    one = visit(quick)
    page = one.open("/chat" + link({"m": [[0, ""]] * 5000}))
    page.get_by_text("This link cannot be opened: it holds more than 2000 messages.").first.wait_for()
    assert page.locator(".message").count() == 0


def test_a_long_conversation_opens_quickly_and_is_whole_when_asked_for(visit, quick):
    one = visit(quick)
    page = one.open("/chat" + link({"m": [[index % 2, f"m{index}"] for index in range(1000)]}))
    expect(page.locator(".message")).to_have_count(100)
    expect(page.get_by_text("m999", exact=True)).to_be_visible()
    page.get_by_role("button", name="Show 900 earlier messages").click()
    expect(page.locator(".message")).to_have_count(1000)


def test_a_conversation_that_is_too_long_goes_on_without_its_beginning(visit, serving):
    one = visit(serving("--engine", "scripted:?tokens=5", "--pace-interval", "0", "--body-limit", "4096"))
    page = one.open("/chat" + link({"m": [[index % 2, f"m{index} " + "x" * 300] for index in range(16)]}))
    answer = one.ask("And now?")
    expect(answer.locator(".trouble")).to_contain_text("too long to send")
    with page.expect_request("**/api") as sent:
        answer.get_by_role("button", name="Continue without the oldest messages").click()
    answer = one.answered()
    assert len(answer.locator("standpipe-prose").inner_text().split()) == 5
    sent = sent.value.post_data_json["messages"]
    assert sent[0]["role"] == "user"
    assert sent[-1]["content"] == "And now?"
    assert 4 <= len(sent) <= 10
    page.get_by_text("no longer sent to the model").wait_for()
    page.get_by_role("button", name="Send them again").click()
    page.get_by_text("no longer sent to the model").wait_for(state="detached")


def test_long_pastes_and_text_files_are_attached_as_folded_quotes(visit, echo, tmp_path):
    one = visit(echo)
    page = one.open()
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.setData('text/plain', 'long '.repeat(1000));
      const paste = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
      document.getElementById('draft').dispatchEvent(paste);
    }""")
    expect(page.locator(".attached li")).to_contain_text("Pasted text")
    (tmp_path / "notes.txt").write_text("Buy milk.")
    (tmp_path / "program.bin").write_bytes(b"\x7fELF\0\xff\xfe")
    page.set_input_files(".composer input[type=file]", [tmp_path / "notes.txt", tmp_path / "program.bin"])
    page.get_by_text("“program.bin” is not a text file.").first.wait_for()
    expect(page.locator(".attached li")).to_have_count(2)
    page.click("[aria-label='Remove Pasted text']")
    answer = one.ask("What must I do?")
    expect(answer).to_contain_text("Buy milk.")
    expect(page.locator(".quoted-file summary")).to_contain_text("notes.txt")
    expect(page.locator(".quoted-file pre")).to_be_hidden()
    page.reload()
    expect(page.locator(".quoted-file summary")).to_contain_text("notes.txt")


def test_a_long_message_is_folded(visit, quick):
    one = visit(quick)
    page = one.open()
    one.ask("word " * 500)
    bubble = page.locator("details.bubble")
    assert bubble.bounding_box()["height"] < 400
    bubble.locator("summary").click()
    expect(bubble.get_by_text("Show less")).to_be_visible()


def test_five_hundred_conversations_are_light(visit, quick, tmp_path):
    one = visit(quick)
    page = one.open()
    node = {"id": "a", "parent": "", "role": "user", "text": "x", "at": 1}
    talks = [
        {
            "title": f"Talk {index}",
            "updated": index + 1,
            "tree": {
                "nodes": {"a": node | {"text": f"needle{index} " + "hay " * 2000}},
                "children": {"": ["a"]},
                "chosen": {"": "a"},
            },
        }
        for index in range(500)
    ]
    file = tmp_path / "many.json"
    file.write_text(json.dumps({"format": "standpipe.conversations", "version": 1, "conversations": talks}))
    page.set_input_files("#import", file)
    page.get_by_text("500 conversations imported.").first.wait_for(timeout=30_000)
    assert page.locator(".talks .open").count() <= 200
    page.fill("#search", "needle499")
    expect(page.locator(".talks .open")).to_have_text(["Talk 499"])
    page.fill("#search", "")
    expect(page.locator(".talks .open").first).to_be_visible()


def test_how_full_the_context_is_shows_once_that_matters(visit, quick):
    one = visit(quick)

    def told(route):
        if route.request.method == "POST":
            return route.continue_()
        about = route.fetch().json()
        about["limits"]["context_tokens"] = 120
        return route.fulfill(json=about)

    one.page.route("**/api", told)
    page = one.open()
    one.ask("Hello")
    expect(page.locator(".under")).to_contain_text(re.compile(r"Context \d+% full"))
