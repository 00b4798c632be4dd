import io
import json
import re

import pytest

from standpipe.observe.hooks import Record
from standpipe.observe.log import TRACEBACK, TRACEBACKS, ClientHash, RequestLog, build

RECORD = Record(
    id="abc",
    dialect="api",
    client="0123456789ab",
    status=200,
    stream=True,
    model="m",
    engine="e",
    failure=None,
    waited=0.1234,
    first_token=0.5,
    duration=1.0,
    prompt_tokens=3,
    completion_tokens=4,
    attempts=2,
)


def test_a_client_is_named_by_a_hash_that_changes_daily():
    now = 0.0
    keys = iter([b"a" * 32, b"b" * 32])
    name = ClientHash(lambda: now, lambda _: next(keys))
    first = name("203.0.113.7")
    assert first == name("203.0.113.7") != name("203.0.113.8")
    assert "203" not in first
    now = 86_400.0
    assert name("203.0.113.7") != first


def test_one_json_line_per_request():
    out = io.StringIO()
    RequestLog(build("json", "info", out))(RECORD)
    line = json.loads(out.getvalue())
    assert line["event"] == "request"
    assert (line["id"], line["status"], line["waited"], line["tokens"]) == ("abc", 200, 0.123, 4)
    assert "failure" not in line


def test_human_lines_and_levels():
    out = io.StringIO()
    log = build("human", "warning", out)
    log.info("quiet")
    log.warning("loud", model="m", engine=None, told="two words")
    line = out.getvalue()
    assert line.count("\n") == 1
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning loud {21}model=m engine=None told='two words'\n", line)


def test_a_terminal_gets_colours_and_nothing_that_moves_its_cursor():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    build("auto", "info", out).info("ask\x1b[2J", model="a\x1b[2J\nb")
    line = out.getvalue()
    assert line.count("\n") == 1
    assert "\x1b[2J" not in line
    assert r"a\x1b[2J\nb" in line
    assert "\x1b[32m" in line


@pytest.mark.parametrize("form", ["human", "json"])
def test_an_error_is_told_with_its_traceback(form):
    out = io.StringIO()
    try:
        raise KeyError("lost")
    except KeyError as error:
        build(form, "debug", out).error("bug", error=error, id="abc")
    assert "KeyError: 'lost'" in out.getvalue()
    assert "abc" in out.getvalue()


def test_a_log_that_cannot_be_written_costs_nobody_an_answer():
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    for out in (Full(), None):
        log = build("json", "info", out)
        RequestLog(log)(RECORD)
        assert log.dropped == 1


def test_half_a_character_does_not_cost_the_line():
    out = io.StringIO()
    build("json", "info", out).info("odd", text="\ud800", id="abc")
    assert json.loads(out.getvalue())["text"] == r"'\ud800'"


def deep(calls):
    if not calls:
        raise ValueError("x" * 100_000)
    deep(calls - 1)


def test_a_bug_is_bounded_in_size_and_rate():
    out = io.StringIO()
    log = build("json", "info", out)
    for number in range(TRACEBACKS + 5):
        try:
            deep(200)
        except ValueError as error:
            log.error("bug", error=error, id=str(number))  # noqa: TRY400
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["id"] for line in lines] == [str(number) for number in range(TRACEBACKS + 5)]
    assert all(len(line["exception"]) < TRACEBACK + 20 for line in lines)
    assert [line["exception"].startswith("Traceback") for line in lines] == [True] * TRACEBACKS + [False] * 5
    assert "ValueError" in lines[-1]["exception"]
