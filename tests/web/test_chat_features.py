"""What people expect of a chat page beyond asking: models, versions, addresses, presets, images, languages."""

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
def several(serving):
    """Two models: one that says what it was told, and one that makes up sixty words."""
    return serving(
        *("--engine", "scripted:?text=echo&model=echo"),
        *("--engine", "scripted:?tokens=60&rate=60&model=words"),
        *("--pace-interval", "0"),
    )


def choose(page, label):
    page.get_by_role("menuitem", name=label).click()


def test_a_model_is_chosen_for_a_conversation_and_another_for_one_answer(visit, several):
    one = visit(several)
    page = one.open()
    page.get_by_label("Model").select_option("words")
    with page.expect_request("**/api") as asked:
        answer = one.ask("Hello")
    assert asked.value.post_data_json["model"] == "words"
    expect(answer.locator(".facts.model")).to_have_text("words")
    answer.get_by_role("button", name="More").click()
    choose(page, "Answer again with echo")
    answer = one.answered()
    expect(answer.locator("standpipe-prose")).to_have_text("Hello")
    expect(answer.locator(".branches > span")).to_have_text("2/2")
    answer.get_by_role("button", name="More").click()
    with page.expect_request("**/api") as asked:
        choose(page, "More precise")
    assert asked.value.post_data_json["temperature"] == 0.2
    expect(one.answered().locator(".facts").first).to_contain_text("temperature 0.2")
    page.reload()
    expect(page.get_by_label("Model")).to_have_value("words")


def test_one_model_is_no_choice(visit, quick):
    page = visit(quick).open()
    expect(page.locator(".live .model")).to_have_text("gpt-oss:latest")
    expect(page.get_by_label("Model")).to_have_count(0)


def test_a_stopped_answer_goes_on_and_its_pace_is_told_meanwhile(visit, slow):
    one = visit(slow)
    page = one.open()
    answer = one.ask("Go on for ever", wait=False)
    expect(answer.locator(".facts")).to_contain_text("tokens/s")
    page.keyboard.press("Escape")
    answer.get_by_text("Stopped.").wait_for()
    before = answer.locator("standpipe-prose").inner_text()
    with page.expect_request("**/api") as asked:
        answer.get_by_role("button", name="Continue").click()
    sent = asked.value.post_data_json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"].split() == before.split()
    one.until(f"document.querySelector('.answer standpipe-prose').innerText.length > {len(before)} + 20")
    page.keyboard.press("Escape")
    answer.get_by_text("Stopped.").wait_for()
    assert answer.locator("standpipe-prose").inner_text().startswith(before.strip()[:40])
    expect(page.locator(".message")).to_have_count(2)


def test_an_answer_is_edited_as_a_version_and_a_conversation_forked(visit, echo):
    one = visit(echo)
    page = one.open()
    answer = one.ask("Tea")
    answer.get_by_role("button", name="Edit").click()
    page.fill("#edited", "Coffee")
    page.get_by_role("button", name="Save as a version").click()
    expect(answer.locator("standpipe-prose")).to_have_text("Coffee")
    expect(answer.locator(".branches > span")).to_have_text("2/2")
    with page.expect_request("**/api") as asked:
        one.ask("And then?")
    assert asked.value.post_data_json["messages"][1] == {"role": "assistant", "content": "Coffee"}
    page.locator(".answer").first.get_by_role("button", name="More").click()
    choose(page, "Fork from here")
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".talks .open")).to_have_count(2)
    expect(page.locator(".answer standpipe-prose")).to_have_text("Coffee")


def test_conversations_have_names_pins_and_addresses(visit, echo):
    one = visit(echo)
    page = one.open()
    one.ask("Rivers")
    rivers = page.url
    assert "#c=" in rivers
    page.click(".new")
    assert "#" not in page.url
    one.ask("Lakes")
    page.go_back()
    page.get_by_role("article", name="You").get_by_text("Rivers").wait_for()
    assert page.url == rivers
    page.hover(".talks li >> nth=1")
    page.click("[aria-label='More about Rivers']")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".talks h2").first).to_have_text("Pinned")
    expect(page.locator(".talks .open")).to_have_text(["Rivers", "Lakes"])
    page.click("[aria-label='More about Rivers']")
    choose(page, "Rename")
    page.fill("#new-title", "Streams")
    page.keyboard.press("Enter")
    expect(page.locator(".talks .open")).to_have_text(["Streams", "Lakes"])
    page.reload()
    page.get_by_role("article", name="You").get_by_text("Rivers").wait_for()
    expect(page.locator(".talks .open")).to_have_text(["Streams", "Lakes"])
    assert page.title() == "Streams · Standpipe"
    page.goto(one.url + "/chat#c=nothing-here")
    page.get_by_text("This conversation is not in this browser.").first.wait_for()
    assert "#" not in page.url


def test_the_list_folds_and_stays_folded(visit, echo):
    page = visit(echo).open()
    page.keyboard.press("Control+b")
    expect(page.locator(".history")).to_be_hidden()
    page.reload()
    page.wait_for_selector(".live .dot[data-up]")
    expect(page.locator(".history")).to_be_hidden()
    page.click(".bar [aria-label=Conversations]")
    expect(page.locator(".history")).to_be_visible()


def test_every_parameter_reaches_the_server_and_presets_keep_them(visit, echo):
    one = visit(echo)
    page = one.open()
    page.click("[aria-label=Settings]")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_text("More parameters").click()
    page.fill("#parameter-frequency_penalty", "0.5")
    page.fill("#parameter-presence_penalty", "-3")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Stop sequences").fill("END\n\nSTOP")
    page.get_by_label("JSON schema").fill('{"type": ')
    page.keyboard.press("Tab")
    page.get_by_text("This is not a JSON object").wait_for()
    page.get_by_label("JSON schema").fill('{"type": "object", "properties": {"$a": {"const": "true"}}}')
    page.get_by_label("Name of a new preset").fill("Mine")
    page.keyboard.press("Enter")
    page.get_by_text("Reset to defaults").click()
    page.click(".new")
    page.get_by_label("System prompt").fill("")
    page.reload()
    page.wait_for_selector(".live .dot[data-up]")
    page.click("[aria-label=Settings]")
    page.get_by_role("button", name="Mine", exact=True).click()
    with page.expect_request("**/api") as asked:
        one.ask("Hello", wait=False)
    body = asked.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["frequency_penalty"] == 0.5
    assert body["presence_penalty"] == -2
    assert body["seed"] == 7
    assert body["stop"] == ["END", "STOP"]
    assert body["response_format"]["json_schema"]["schema"]["properties"] == {"$a": {"const": "true"}}
    page.click(".panel [aria-label=Close]")
    page.click("[aria-label=API]")
    page.get_by_label("Copy this conversation as").select_option("fetch")
    expect(page.locator("#copy-as-code")).to_contain_text('"$a"')
    page.get_by_label("Copy this conversation as").select_option("requests")
    expect(page.locator("#copy-as-code")).to_contain_text('"const": "true"')


CODE = """```html
<style>h1 { color: rgb(1, 2, 3) }</style><h1 onclick="parent.pwned = 1">Looked at</h1>
<script>parent.pwned = 1; document.querySelector('h1').textContent = 'ran'</script>
<img src="https://elsewhere.example/" onerror="parent.pwned = 1"><a href="https://elsewhere.example/">Leave</a>
```

```python
print("a very long line, which is longer than any window is wide", "and so it goes on", "and on", "and on", "and on")
```"""


def test_code_is_wrapped_folded_saved_and_looked_at_without_running(visit, echo):
    one = visit(echo)
    refused = []
    one.context.on("requestfailed", lambda request: refused.append(request.failure))
    page = one.open()
    one.ask(CODE)
    python = page.locator(".answer .code").last
    pre = python.locator("pre")
    assert pre.evaluate("pre => pre.scrollWidth > pre.clientWidth")
    python.get_by_role("button", name="Wrap long lines").click()
    assert pre.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    python.get_by_role("button", name="python").click()
    expect(pre).to_be_hidden()
    python.get_by_role("button", name="python").click()
    with page.expect_download() as saved:
        python.get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "code.py"
    assert saved.value.path().read_text().startswith("print(")
    expect(python.get_by_role("button", name="Preview")).to_have_count(0)
    page.locator(".answer .code").first.get_by_role("button", name="Preview").click()
    shown = page.frame_locator(".answer iframe")
    expect(shown.get_by_role("heading")).to_have_text("Looked at")
    expect(shown.get_by_role("heading")).to_have_css("color", "rgb(1, 2, 3)")
    shown.get_by_role("heading").click()
    assert page.evaluate("window.pwned") is None
    shown.get_by_role("link").click()
    page.wait_for_timeout(300)  # for what must not happen there is no event
    inside = page.frames[-1]
    assert "elsewhere" not in inside.url or "chrome-error" in inside.url
    assert inside.evaluate("origin") == "null"
    violated = {line.split()[2] for line in one.wrong if line.startswith("violation of")}
    assert violated <= {"img-src:", "script-src-attr:", "frame-src:"}
    assert {"csp", "net::ERR_BLOCKED_BY_CSP"} >= set(refused)  # Playwright tells what was asked, even if it never left
    assert len(refused) == len([line for line in one.wrong if line.startswith("asked")])
    one.wrong.clear()  # those violations were this test's business


def test_images_are_attached_where_the_model_sees_and_made_small(visit, echo, tmp_path):
    one = visit(echo)
    page = one.page
    sent = []

    def serve(route):
        if route.request.method == "POST":
            sent.append(route.request.post_data_json)
            choice = {"message": {"role": "assistant", "content": "A red square."}, "finish_reason": "stop"}
            route.fulfill(json={"model": "seer", "choices": [choice]})
            return
        told = route.fetch().json()
        told["limits"]["images"] = 2
        route.fulfill(json=told)

    page.route("**/api", serve)
    one.open()
    picture = page.evaluate("""async () => {
      const canvas = new OffscreenCanvas(4000, 1000);
      const context = canvas.getContext('2d');
      context.fillStyle = 'red';
      context.fillRect(0, 0, 4000, 1000);
      const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
      return Array.from(bytes);
    }""")
    for name in ("one.png", "two.png", "three.png"):
        (tmp_path / name).write_bytes(bytes(picture))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    field = page.locator(".composer input[type=file]")
    field.set_input_files(tmp_path / "broken.png")
    page.get_by_text("“broken.png” is not an image").first.wait_for()
    field.set_input_files([tmp_path / "one.png", tmp_path / "two.png", tmp_path / "three.png"])
    page.get_by_text("2 images at most.").first.wait_for()
    expect(page.locator(".attached canvas")).to_have_count(2)
    page.click("[aria-label='Remove two.png']")
    answer = one.ask("What is this?")
    expect(answer).to_contain_text("A red square.")
    words, shown = sent[0]["messages"][0]["content"]
    assert words == {"type": "text", "text": "What is this?"}
    assert shown["image_url"]["url"].startswith("data:image/jpeg;base64,")
    page.reload()
    kept = page.locator(".mine standpipe-picture[role=img][aria-label='one.png'] canvas")
    expect(kept).to_have_js_property("width", 1568)
    expect(kept).to_have_js_property("height", 392)


def test_an_image_for_a_model_that_does_not_see_is_told(visit, echo, tmp_path):
    page = visit(echo).open()
    (tmp_path / "one.png").write_bytes(b"\x89PNG")
    page.set_input_files(".composer input[type=file]", tmp_path / "one.png")
    page.get_by_text("The model cannot see images.").first.wait_for()


RECOGNITION = """window.SpeechRecognition = class {
  start() {
    setTimeout(() => this.onresult({ results: [[{ transcript: 'how are' }], [{ transcript: ' you' }]] }));
  }
  stop() { this.onend(); }
}"""


def test_what_is_dictated_is_written_behind_what_is_there(visit, echo):
    one = visit(echo)
    one.context.add_init_script(RECOGNITION)
    page = one.open()
    page.fill("#draft", "Hello,")
    page.get_by_role("button", name="Dictate").click()
    expect(page.locator("#draft")).to_have_value("Hello, how are you")
    expect(page.get_by_role("button", name="Dictate")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Dictate").click()
    expect(page.get_by_role("button", name="Dictate")).to_have_attribute("aria-pressed", "false")


def test_the_page_speaks_the_language_of_the_browser_and_another_that_is_chosen(visit, echo):
    one = visit(echo, locale="ar")
    page = one.open()
    html = page.locator("html")
    expect(html).to_have_attribute("dir", "rtl")
    expect(page.locator(".new")).to_have_text("محادثة جديدة")
    expect(page.get_by_role("heading", level=1)).to_have_text("ماذا تريد أن تعرف؟")
    one.page.fill("#draft", "Hi")
    one.page.press("#draft", "Enter")
    page.locator(".answer .tools .facts").first.wait_for()
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 800})
    page.locator(".bar-tools .wide").last.click()
    page.locator("#tongue").select_option("de")
    expect(html).to_have_attribute("dir", "ltr")
    expect(html).to_have_attribute("lang", "de")
    expect(page.locator(".new")).to_have_text("Neuer Chat")
    expect(page.locator(".answer .tools [aria-label='Neu erzeugen']")).to_be_visible()
    page.reload()
    expect(page.locator(".new")).to_have_text("Neuer Chat")
