"""The site without a browser: what is sent, with which headers, and whether it tells the truth about this tap."""

import gzip
import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from standpipe.engines.engine import Card
from standpipe.engines.scripted.script import Script
from standpipe.serve.door import EXPOSED
from standpipe.settings import SettingsError
from standpipe.site import theme
from standpipe.site.assets import modules, text
from tests.serve.driver import Reply, Tap
from tests.virtual import run

PAGES = ("/", "/chat", "/status", "/privacy")


def visit(path, headers=None, method="GET", **settings):
    async def scene():
        async with Tap(Script(tokens=3, model="gpt-oss:latest"), **settings) as tap:
            return await tap.send(method, path, headers=headers)

    return run(scene())


def body(path, **settings):
    return visit(path, **settings).body.decode()


@pytest.mark.parametrize("path", PAGES)
def test_pages_allow_only_what_is_ours(path):
    reply = visit(path)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    for rule in (
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
    ):
        assert rule in policy
    chat = "lit-html dompurify standpipe; frame-src 'self'"
    assert policy.endswith(chat if path == "/chat" else "trusted-types 'none'")
    assert reply.headers["cache-control"] == "no-cache"


def test_a_preview_runs_nothing_but_our_script_and_fetches_nothing():
    rules = dict(rule.split(" ", 1) for rule in visit("/preview").headers["content-security-policy"].split("; "))
    assert rules.pop("sandbox") == "allow-scripts"  # and not its origin: it is nobody's
    script = re.search("<script>(.*)</script>", body("/preview"), re.DOTALL)[1]
    assert rules.pop("script-src") == f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    assert rules.pop("style-src") == "'unsafe-inline'"
    assert {rules.pop(name) for name in ("img-src", "font-src")} == {"data:"}
    assert {rules.pop(name) for name in ("default-src", "base-uri", "form-action")} == {"'none'"}
    assert rules == {"frame-ancestors": "'self'"}


def test_the_chat_can_be_installed_under_the_name_of_the_server():
    reply = visit("/manifest.webmanifest", name="Our tap")
    assert reply.headers["content-type"] == "application/manifest+json"
    assert reply.json["name"] == "Our tap"
    assert reply.json["start_url"] == "chat"  # beside it, wherever a proxy put it
    assert '<link rel="manifest" href="./manifest.webmanifest">' in body("/chat")


@pytest.mark.parametrize("path", [*PAGES, "/index.md", "/privacy.md", "/status.md", "/llms.txt"])
def test_every_place_in_a_template_is_filled(path):
    assert not re.search(r"\{\{[&\w]+\}\}", body(path))


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_loads_is_there(path):
    async def scene():
        async with Tap() as tap:
            page = (await tap.send("GET", path)).body.decode()
            found = re.findall(r'(?:src|href)="(?!https?:)([^"#]+)"', page)
            assert len(found) > 5
            for target in set(found):
                assert target.startswith("./"), f"{target} leads elsewhere behind a proxy that serves us below a path"
                assert (await tap.send("GET", target[1:])).status == 200, target

    run(scene())


def test_assets_may_be_kept_for_ever_under_their_own_name_only():
    async def scene():
        async with Tap() as tap:
            page = (await tap.send("GET", "/")).body.decode()
            [path] = re.findall(r'href="\.(/assets/\w+/docs.css)"', page)
            kept = await tap.send("GET", path)
            other = await tap.send("GET", "/assets/older/docs.css")
            assert "immutable" in kept.headers["cache-control"]
            assert other.headers["cache-control"] == "no-cache"
            assert kept.body == other.body
            for wrong in (
                "/assets/x",
                "/assets/x/",
                "/assets/x/../../settings.py",
                "/assets/x/css",
                "/assets/x/pages/index.md",
            ):
                assert (await tap.send("GET", wrong)).status == 404, wrong

    run(scene())


def test_who_has_a_page_is_not_sent_it_again():
    first = visit("/")
    again = visit("/", {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert visit("/", {"if-none-match": '"else", W/' + first.headers["etag"]}).status == 304
    assert visit("/", {"if-none-match": '"else"'}).status == 200


def test_what_can_be_packed_is_packed_for_those_who_ask():
    plain, packed = visit("/"), visit("/", {"accept-encoding": "br, gzip;q=0.8"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 4
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == "accept-encoding"
    assert "content-encoding" not in visit("/", {"accept-encoding": "gzip;q=0, br"}).headers
    assert "content-encoding" not in visit("/og.png", {"accept-encoding": "gzip"}).headers


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("method", "path", "status", "root"),
    [
        ("GET", "/nowhere", 404, "./"),
        ("GET", "/a/deep/place", 404, "../../"),
        ("POST", "/chat", 405, "./"),
        ("GET", "/assets/x/nothing.js", 404, "../../"),
    ],
)
def test_browsers_get_a_page_for_what_is_not_there_and_programs_get_json(method, path, status, root):
    page = visit(path, BROWSER, method)
    assert (page.status, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert f'href="{root}chat"' in page.body.decode()
    assert "script-src 'self'" in page.headers["content-security-policy"]
    program = visit(path, {"accept": "*/*"}, method)
    assert (program.status, program.json["error"]["code"]) == (
        status,
        (page.headers.get("allow") and "method_not_allowed") or "not_found",
    )
    assert page.headers.get("allow") == program.headers.get("allow")


def test_the_paths_of_the_api_answer_browsers_in_json_too():
    assert visit("/v1/models/none", BROWSER, strict_models=True).json["error"]["code"] == "model_not_found"


def test_a_bug_is_a_page_with_the_id_that_the_operator_needs():
    async def scene():
        async with Tap() as tap:
            tap.app.board.status = None
            reply = await tap.send("GET", "/status", headers=BROWSER)
            assert reply.status == 500
            assert reply.headers["x-request-id"] in reply.body.decode()

    run(scene())


def test_a_page_has_one_address():
    reply = visit("/chat/")
    assert (reply.status, reply.headers["location"]) == (308, "../chat")


def test_pages_may_be_framed_where_the_operator_says_so():
    policy = visit("/chat", frame_ancestors=("self", "https://huggingface.co")).headers["content-security-policy"]
    assert "frame-ancestors 'self' https://huggingface.co;" in policy
    with pytest.raises(SettingsError, match="frame_ancestors"):
        Tap(frame_ancestors=("https://x; script-src *",))


def test_an_address_below_a_path_is_the_operators():
    page = body("/", public_url="https://example.org/chat/")
    assert "https://example.org/chat/api" in page
    assert '<link rel="canonical" href="https://example.org/chat/">' in page


def test_files_carry_no_headers_that_only_an_api_needs():
    async def scene():
        async with Tap() as tap:
            page = (await tap.send("GET", "/")).body.decode()
            path = re.findall(r'href="\.(/assets/\w+/docs.css)"', page)[0]
            reply = await tap.send("GET", path)
            assert not [name for name in reply.headers if name.startswith("access-control")]
            assert reply.headers["x-content-type-options"] == "nosniff"

    run(scene())


@pytest.mark.parametrize("path", PAGES)
def test_a_first_look_is_within_the_budget_headers_included(path):
    async def scene():
        packed = {"accept-encoding": "gzip"}
        async with Tap() as tap:
            first = await tap.send("GET", path, headers=packed)
            page = gzip.decompress(first.body).decode()
            targets = {*re.findall(r'(?:src|href)="\.(/[^"]+\.(?:js|css))"', page), "/favicon.svg"}
            found = [first, *[await tap.send("GET", target, headers=packed) for target in sorted(targets)]]
        heads = sum(len(name) + len(value) + 4 for reply in found for name, value in reply.headers.items())
        status_and_date = 80 * len(found)
        return len(found), heads + status_and_date + sum(len(reply.body) for reply in found)

    count, size = run(scene())
    assert count > 5
    assert size <= 60_000


def test_the_operators_words_are_escaped():
    evil = '<script>alert("x")</script>'
    for path in PAGES:
        page = body(path, name=evil, welcome=evil, contact=evil, privacy=evil)
        assert "<script>alert" not in page
        assert "&lt;script&gt;" in page


def test_the_operators_links_stand_at_the_foot():
    page = body("/", links=("Source=https://example.org/source?a=1&b=2",))
    assert '<a href="https://example.org/source?a=1&amp;b=2">Source</a>' in page


@pytest.mark.parametrize(
    "link", ["nothing", "x=javascript:alert(1)", "x=//evil", 'x=https://e.org/"onclick="x', "=https://e.org"]
)
def test_a_link_that_leads_nowhere_is_a_wrong_setting(link):
    with pytest.raises(SettingsError, match="links"):
        Tap(links=(link,))


def test_the_address_is_the_operators_if_there_is_one():
    page = body("/", public_url="https://chat.example.org/")
    assert "https://chat.example.org/api" in page
    assert '<meta property="og:url" content="https://chat.example.org/">' in page
    assert "127.0.0.1" not in page
    assert "curl https://chat.example.org/api" in body("/index.md", public_url="https://chat.example.org")


def test_limits_are_those_that_hold():
    page = body("/index.md", pace_interval=2.0, pace_waiting=3, max_tokens=777, body_limit=2048, wait_limit=9.0)
    for words in ("every 2 s", "up to 3 may be waiting", "777 tokens", "2 KiB", "more than 9 s"):
        assert words in page
    assert "There is no rate limit:" in body("/index.md", pace_interval=0.0)


@pytest.mark.parametrize(
    ("settings", "said", "not_said"),
    [
        ({"hold_answers": 0.0}, "neither stored nor logged", "stay in memory"),
        ({}, "stay in memory for 30 minutes after they were last used", "The prompts that led to them"),
        ({"keep_responses": 7200.0}, "stay in memory with them, for 2 hours at most", "neither stored nor logged"),
        ({}, "One line is logged for each request", "Requests are not logged"),
        ({"log_level": "warning"}, "Requests are not logged", "One line is logged"),
        ({}, "answered on this machine", "passed on"),
        (
            {"engine": ("http://gpu.internal:8000/v1",)},
            "passed on to an engine on another machine",
            "on this machine",
        ),
        ({"engine": ("http://127.0.0.1:8000/v1", "embedded")}, "on this machine", "passed on"),
        ({}, "no system prompt unless you send one", "has set a system prompt"),
        ({"system_prompt": "Be kind."}, "has set a system prompt", "Be kind."),
        ({"contact": "me@example.org"}, "mailto:me@example.org", "added nothing here"),
        ({"privacy": "We *care*."}, "We *care*.", "added nothing here"),
        ({"shares": True}, "POST /api/share", "The operator can change that"),
    ],
)
def test_the_privacy_page_is_made_of_the_real_settings(settings, said, not_said):
    page = body("/privacy.md", **settings)
    assert said in page
    assert not_said not in page


def test_a_page_is_made_anew_when_a_fact_changes_and_only_then():
    async def scene():
        async with Tap(Script(model="one")) as tap:
            first = await tap.send("GET", "/")
            again = await tap.send("GET", "/")
            assert first.headers["etag"] == again.headers["etag"]
            tap.app.fleet.members[0].models = ("two",)
            tap.app.fleet._relist()
            changed = await tap.send("GET", "/")
            assert "two" in changed.body.decode()
            assert changed.headers["etag"] != first.headers["etag"]

    run(scene())


def test_robots_and_language_models_find_their_way():
    assert "Disallow: /api" in body("/robots.txt")
    found = body("/llms.txt")
    assert found.startswith("# Standpipe\n\n> ")
    for target in re.findall(r"\]\(http://127.0.0.1:8080([^)]*)\)", found):
        assert visit(target).status == 200, target


def test_samples_are_named_in_the_twin_and_grouped_on_the_page():
    twin, page = body("/index.md"), body("/")
    assert "Python openai:\n\n```python\nfrom openai" in twin
    assert page.count('<div class="samples"') > 5
    assert 'data-run="Hello!"' in page
    assert '<section data-sample="anthropic">' in page
    assert 'data-label="default"' in page


def test_every_code_of_an_error_and_every_header_is_in_the_documentation():
    from standpipe.chat import errors

    def tree(kind):
        return {kind, *(found for child in kind.__subclasses__() for found in tree(child))}

    page = text("pages/index.md")
    codes = {kind.code for kind in tree(errors.Failure) if kind.__module__ == errors.__name__}
    assert {code for code in codes if f"`{code}`" not in page} == set()
    assert {name for name in EXPOSED.split(", ") if f"`{name}`" not in page} == set()


def test_the_status_is_told_as_a_page_as_markdown_and_as_json():
    async def scene():
        async with Tap(Script(tokens=5, model="m")) as tap:
            await tap.ask()
            page = (await tap.send("GET", "/status")).body.decode()
            twin = (await tap.send("GET", "/status.md")).body.decode()
            told = (await tap.send("GET", "/api/status")).json
            assert "Standpipe is up" in page
            assert "| Requests in the last hour | 1 |" in twin
            assert (told["hour"]["requests"], told["hour"]["tokens"]) == (1, 5)
            assert "192.0.2" not in page + twin + json.dumps(told)

    run(scene())


def test_the_status_streams_the_same_bytes_to_all_and_ends_when_the_house_drains():
    import asyncio

    async def scene():
        async with Tap(Script(tokens=5)) as tap:
            replies = [Reply(), Reply()]
            watching = [asyncio.ensure_future(tap.send("GET", "/api/status/events", reply=reply)) for reply in replies]
            await asyncio.sleep(5)
            assert [len(reply.writes) for reply in replies] == [3, 3]
            assert replies[0].body == replies[1].body
            assert replies[0].headers["content-type"] == "text/event-stream"
            assert replies[0].frames[0]["status"] == "ok"
            tap.center.admission.drain()
            await asyncio.gather(*watching)
            assert [reply.end_kind for reply in replies] == ["end", "end"]

    run(scene())


def test_only_so_many_watch_at_a_time_and_none_for_ever():
    import asyncio

    from standpipe.site import status

    async def scene():
        async with Tap() as tap:
            watching = [asyncio.ensure_future(tap.send("GET", "/api/status/events")) for _ in range(status.WATCHERS)]
            await asyncio.sleep(1)
            refused = await tap.send("GET", "/api/status/events")
            assert (refused.status, refused.headers["retry-after"]) == (503, "30")
            watching[0].cancel()
            await asyncio.sleep(0.1)
            late = asyncio.ensure_future(tap.send("GET", "/api/status/events"))
            done = await asyncio.gather(*watching[1:], late)
            assert {reply.end_kind for reply in done} == {"end"}

    run(scene())


def colours(scheme):
    """The tokens of base.css for light (0) or dark (1)."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", text("css/base.css"))
    return {name: theme.read((light, dark)[scheme]) for name, light, dark in found}


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_can_be_read_on_every_paper(scheme):
    tokens = colours(scheme)
    for paper in ("paper", "sunken", "raised"):
        for ink in ("ink", "soft", "bad"):
            assert theme.contrast(tokens[ink], tokens[paper]) >= 4.5, (ink, paper)
    assert theme.contrast(tokens["bad"], tokens["bad-tint"]) >= 4.5
    assert theme.contrast(tokens["edge"], tokens["paper"]) >= 3  # borders of what can be typed into
    code = re.findall(r"color: light-dark\((#\w{6}), (#\w{6})\)", text("css/code.css"))
    assert len(code) >= 5
    for pair in code:
        assert theme.contrast(theme.read(pair[scheme]), tokens["sunken"]) >= 4.5, pair


@pytest.mark.parametrize("accent", ["#0b7494", "#ffcc00", "#000000", "#ffffff", "#ff0000", "#00ff88", "#777777"])
def test_any_colour_of_an_operator_can_be_read(accent):
    made = theme.css(accent)
    light, dark = map(theme.read, re.findall(r"#\w{6}", made))
    for scheme, shade in ((0, light), (1, dark)):
        tokens = colours(scheme)
        for paper in ("paper", "sunken", "raised"):
            assert theme.contrast(shade, tokens[paper]) >= 4.5
        assert theme.contrast(shade, theme.mix(tokens["paper"], shade, 0.1)) >= 4.5
    assert theme.contrast(light, (255, 255, 255)) >= 4.5
    assert theme.contrast(dark, theme.read("#0b1114")) >= 4.5


def test_a_colour_that_can_be_read_is_left_as_it_is():
    assert theme.readable((10, 60, 90), theme.LIGHT_PAPER) == (10, 60, 90)


def test_the_modules_of_a_page_are_found_through_their_imports():
    found = modules("js/chat/main.js")
    assert found[0] == "js/chat/main.js"
    assert "vendor/lit-html/lit-html.js" in found
    assert "js/chat/conversation.js" in found
    assert not any("marked" in name or "highlight" in name for name in found)


def test_the_context_is_told_as_the_least_of_the_engines_that_say_theirs():
    async def scene():
        async with Tap(Script(tokens=1)) as tap:
            before = (await tap.send("GET", "/api")).json["limits"]
            tap.app.fleet.members[0].engine.card = lambda _: Card(window=4096)
            await tap.app.fleet.members[0].refresh()
            after = (await tap.send("GET", "/api")).json["limits"]
            return before, after

    before, after = run(scene())
    assert "context_tokens" not in before
    assert after == before | {"context_tokens": 4096}
