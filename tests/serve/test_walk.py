"""The walk of one ask, from the seam to the log line, on virtual time with scripted engines."""

import asyncio
import json
import re

import pytest

from standpipe.chat.events import Finished, FinishReason, Started, TextDelta, Usage
from standpipe.engines.scripted.script import Fault, FaultKind, Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.serve.trace import TokenMeter
from tests.serve.driver import Reply, Tap, scene
from tests.virtual import run


@scene(Script(tokens=5))
async def test_an_answer_that_is_not_streamed_is_one_object(tap):
    reply = await tap.ask(stream=False)
    assert (reply.status, reply.end_kind) == (200, "end")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["object"] == "chat.completion"
    assert reply.json["usage"]["completion_tokens"] == 5
    assert len(reply.json["choices"][0]["message"]["content"].split()) == 5


@scene(Script(tokens=5, model="gpt-oss:latest"))
async def test_api_streams_unless_told_otherwise(tap):
    reply = await tap.ask()
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["cache-control"] == "no-cache, no-transform"
    assert reply.frames[-1] == "[DONE]"
    assert {frame["model"] for frame in reply.frames[:-1]} == {"gpt-oss:latest"}
    whole = await tap.ask(stream=False)
    assert reply.text == whole.json["choices"][0]["message"]["content"]


@scene(Script(tokens=3))
async def test_openais_own_path_does_not_stream_by_default(tap):
    body = {"messages": [{"role": "user", "content": "hello"}]}
    reply = await tap.send("POST", "/v1/chat/completions", body)
    assert reply.json["object"] == "chat.completion"


@scene(Script(tokens=4, first=0.1, rate=10))
async def test_events_reach_the_client_as_they_come(tap):
    reply = await tap.ask()
    instants = [at for at, data in reply.writes if b'"content":"' in data]
    assert len(set(instants)) >= 4


@scene(Script(tokens=4), system_prompt="Be brief, says the operator.")
async def test_every_answer_carries_id_wait_attempts_and_cors(tap):
    for stream in (True, False):
        reply = await tap.ask(stream=stream, peer=f"192.0.2.{stream:d}", headers={"authorization": "Bearer sk-secret"})
        assert reply.headers["x-request-id"]
        assert float(reply.headers["x-standpipe-waited"]) == 0
        assert reply.headers["x-standpipe-attempts"] == "1"
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "operator" not in reply.body.decode()


@scene(Script(tokens=2))
async def test_dropped_fields_are_named(tap):
    reply = await tap.ask(stream=False, grammar="x", n_discard=4)
    assert set(reply.headers["x-standpipe-dropped"].split(", ")) == {"grammar", "n_discard"}


# Failures


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 3}, "temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_a_bad_ask_is_a_400_that_names_the_field(body, param):
    @scene(Script(tokens=2))
    async def check(tap):
        reply = await tap.send("POST", "/api", body)
        assert reply.status == 400
        assert reply.json["error"]["type"] == "invalid_request_error"
        assert (reply.json["error"]["param"] or "").startswith(param or "")
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["access-control-allow-origin"] == "*"
        assert tap.asks[-1]["status"] == 400

    check()


@scene(Script(), body_limit=1024)
async def test_a_large_body_is_a_413(tap):
    reply = await tap.ask("x" * 2000)
    assert reply.status == 413
    assert "1024" in reply.json["error"]["message"]


@scene(Script(fault=Fault(FaultKind.STATUS, 502)), attempts=1)
async def test_an_engine_that_fails_early_gives_its_true_status_also_to_a_stream(tap):
    reply = await tap.ask()
    assert reply.status == 502
    assert reply.json["error"]["code"] == "engine_failed"
    assert tap.asks[-1]["failure"] == "EngineFailed"


@scene(Script(tokens=9, rate=10, fault=Fault(FaultKind.CUT, 4)))
async def test_an_engine_that_dies_in_mid_answer_gives_an_error_frame_and_an_unclean_end(tap):
    reply = await tap.ask()
    assert (reply.status, reply.end_kind) == (200, "abort")
    assert reply.frames[-1]["error"]["code"] == "engine_failed"
    assert "[DONE]" not in reply.frames
    assert tap.asks[-1]["status"] == 502
    assert tap.asks[-1]["tokens"] == 4


@scene(Script(tokens=9, rate=10, fault=Fault(FaultKind.CUT, 4)), attempts=1)
async def test_half_an_answer_that_is_not_streamed_is_a_502(tap):
    reply = await tap.ask(stream=False)
    assert reply.status == 502


@scene(Script(tokens=9, rate=10, fault=Fault(FaultKind.CUT, 4), faults=1), Script(name="other", tokens=5))
async def test_an_answer_that_nobody_has_seen_yet_is_begun_anew_elsewhere(tap):
    reply = await tap.ask(stream=False)
    assert reply.status == 200
    assert reply.headers["x-standpipe-attempts"] == "2"
    assert len(reply.json["choices"][0]["message"]["content"].split()) == 5
    assert reply.json["usage"]["completion_tokens"] == tap.asks[-1]["tokens"] == 5
    assert tap.asks[-1]["engine"] == "other"
    assert tap.center.line.statistics().running == tap.app.fleet.statistics().busy == 0


@scene(Script(tokens=3, fault=Fault(FaultKind.STATUS, 503), faults=2))
async def test_an_early_failure_is_tried_again_and_the_answer_tells(tap):
    reply = await tap.ask(stream=False)
    assert reply.status == 200
    assert reply.headers["x-standpipe-attempts"] == "3"
    assert tap.asks[-1]["attempts"] == 3


@scene(Script(fault=Fault(FaultKind.HANG)), first_token_timeout=10, attempts=1, commit_after=20)
async def test_a_silent_engine_is_a_504(tap):
    assert (await tap.ask()).status == 504


@pytest.mark.parametrize("stream", [True, False])
def test_a_bug_of_ours_is_told_by_its_id_and_logged_with_its_traceback(stream):
    class Buggy(Scripted):
        async def answer(self, ask, sink):
            sink.take([Started("m"), TextDelta("half")])
            raise ZeroDivisionError("the secret reason")

    @scene(Script())
    async def check(tap):
        tap.app.fleet.members[0].engine = Buggy(Script())
        reply = await tap.ask(stream=stream)
        error = (reply.frames[-1] if stream else reply.json)["error"]
        assert reply.end_kind == ("abort" if stream else "end")
        assert reply.status == (200 if stream else 500)
        assert error["code"] == "internal_error"
        assert reply.headers["x-request-id"] in error["message"]
        assert "secret" not in reply.body.decode()
        (bug,) = [line for line in tap.lines if line["event"] == "bug"]
        assert "ZeroDivisionError: the secret reason" in bug["exception"]
        assert bug["id"] == reply.headers["x-request-id"]
        assert tap.asks[-1]["status"] == 500

    check()


# Commit and heartbeat


@scene(Script(tokens=3, first=20), commit_after=8, heartbeat=5)
async def test_headers_wait_for_the_first_event_and_heartbeats_fill_the_silence(tap):
    reply = await tap.ask()
    assert reply.started_at == pytest.approx(8)
    assert [at for at, _ in reply.writes][:3] == pytest.approx([8, 13, 18])
    assert reply.frames[-1] == "[DONE]"
    assert len(reply.text.split()) == 3


@scene(Script(first=30, fault=Fault(FaultKind.CUT, 0)), commit_after=8, attempts=1)
async def test_after_the_commit_a_failure_is_an_error_frame(tap):
    reply = await tap.ask()
    assert (reply.status, reply.end_kind) == (200, "abort")
    assert "error" in reply.frames[-1]


@scene(Script(tokens=50, rate=1, slots=1), commit_after=1, heartbeat=2, pace_interval=0)
async def test_who_waits_in_line_sees_the_place(tap):
    async with asyncio.TaskGroup() as group:
        group.create_task(tap.ask(peer="192.0.2.1"))
        await asyncio.sleep(0.1)
        waiting = group.create_task(tap.ask(peer="198.51.100.1"))
    reply = waiting.result()
    positions = [frame["queue"]["position"] for frame in reply.frames if frame != "[DONE]" and "queue" in frame]
    assert positions[:3] == [1, 1, 1]
    assert float(tap.asks[-1]["waited"]) == pytest.approx(49.9, abs=1)


# Pace and line


@scene(Script(tokens=1))
async def test_asks_that_come_too_soon_wait_their_turn_and_too_many_are_refused(tap):
    replies = await asyncio.gather(*(tap.ask(stream=False) for _ in range(10)))
    waits = sorted(float(r.headers["x-standpipe-waited"]) for r in replies if r.status == 200)
    assert waits == pytest.approx([0.5 * n for n in range(9)], abs=0.01)
    (refused,) = [r for r in replies if r.status != 200]
    assert refused.status == 429
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 59
    assert int(refused.headers["retry-after-ms"]) <= 59_000


@scene(Script(tokens=1))
async def test_another_address_has_its_own_pace(tap):
    for host in range(1, 20):
        reply = await tap.ask(stream=False, peer=f"192.0.2.{host}")
        assert reply.headers["x-standpipe-waited"] == "0.000"


@scene(Script(tokens=10, rate=1, slots=1), pace_interval=0)
async def test_who_would_rather_not_wait_is_refused_at_once(tap):
    first = tap.leaving(Reply(), peer="192.0.2.1")
    await asyncio.sleep(0.1)
    reply = await tap.ask(peer="198.51.100.1", headers={"prefer": "wait=0"})
    assert reply.status in {429, 503}
    assert reply.headers["retry-after"]
    await first


@scene(Script(tokens=100, rate=1, slots=1), pace_interval=0, wait_limit=20)
async def test_a_wait_beyond_the_limit_is_a_503(tap):
    first = tap.leaving(Reply(), peer="192.0.2.1")
    await asyncio.sleep(0.1)
    reply = await tap.ask(peer="198.51.100.1", stream=False)
    assert reply.status == 503
    assert reply.json["error"]["code"] == "wait_too_long"
    await first


@scene(Script(tokens=50), max_tokens=7)
async def test_the_operators_cap_holds_for_every_ask(tap):
    reply = await tap.ask(stream=False, max_tokens=-1)
    assert reply.json["usage"]["completion_tokens"] == 7
    assert reply.json["choices"][0]["finish_reason"] == "length"


# Clients that leave


@pytest.mark.parametrize("phase", ["pace", "line", "prefill", "stream", "whole"])
def test_a_client_that_leaves_frees_its_place_at_once(phase):
    async def body():
        async with Tap(Script(tokens=100, rate=10, first=5, slots=1), commit_after=1) as tap:
            blocker = None
            if phase in {"pace", "line"}:
                blocker = tap.leaving(Reply(), peer="192.0.2.1" if phase == "pace" else "203.0.113.1")
                await asyncio.sleep(0.1)
            reply = Reply()
            leaver = tap.leaving(reply, peer="192.0.2.1", stream=phase != "whole")
            await asyncio.sleep({"pace": 0.2, "line": 3, "prefill": 3, "stream": 8, "whole": 8}[phase])
            reply.gone = True
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            assert tap.asks[-1]["status"] == 499
            if blocker is not None:
                blocker.cancel()
                await asyncio.gather(blocker, return_exceptions=True)
            line = tap.center.line.statistics()
            assert (line.running, line.waiting) == (0, 0)
            assert tap.app.fleet.statistics().busy == 0
            assert tap.app.board.about().queue.waiting == 0

    run(body())


# The log


@scene(Script(tokens=20, text="the secret answer"), system_prompt="operator-words", pace_interval=0)
async def test_the_log_has_one_line_per_ask_and_no_words_of_anybody(tap):
    secrets = {"authorization": "Bearer sk-secret-key", "x-forwarded-for": "203.0.113.77"}
    await tap.ask("my private prompt", headers=secrets, user="alice@example.org")
    await tap.ask("my private prompt", headers=secrets, temperature="wrong")
    await tap.send("POST", "/api", b'{"messages": "my private prompt"')
    assert [line["status"] for line in tap.asks] == [200, 400, 400]
    everything = tap.log.getvalue()
    for secret in ("private", "secret", "sk-", "192.0.2.1", "203.0.113", "alice", "operator-words"):
        assert secret not in everything, secret
    line = tap.asks[0]
    assert {"id", "dialect", "client", "model", "status", "waited", "first_token", "tokens", "attempts"} <= set(line)
    assert json.dumps(line)


@scene(Script(slots=4), streams=2)
async def test_no_more_asks_run_than_one_process_may_stream(tap):
    assert tap.app.fleet.slots == 4
    assert tap.center.line.slots == 2


def test_who_is_told_no_count_by_the_engine_is_told_ours_which_teaches_nobody():
    meter = TokenMeter(2, lambda *_: None)
    meter.prompt_estimate = 7
    (*_, ended) = meter.count([TextDelta("a"), Finished(FinishReason.STOP, stop="END")], 0.0)
    assert (ended.stop, ended.usage, meter.usage) == ("END", Usage(7, 1), None)
    meter.restart()
    (*_, ended) = meter.count([TextDelta("a"), TextDelta("b"), TextDelta("c")], 0.0)
    assert (ended.reason, ended.usage, meter.usage) == (FinishReason.LENGTH, Usage(7, 2), None)
    meter.restart()
    (*_, ended) = meter.count([TextDelta("a"), Finished(FinishReason.STOP, Usage(3, 4), stop="END")], 0.0)
    assert ended.usage == meter.usage == Usage(3, 4)
    meter.restart()
    (*_, ended) = meter.count([TextDelta("a"), Finished(FinishReason.STOP)], 0.0)
    assert (ended.usage, meter.usage) == (Usage(7, 1), None)


class Uncounted(Scripted):
    """It tells no counts."""

    async def answer(self, ask, sink):
        sink.take([Started(), TextDelta("Good"), TextDelta(" day."), Finished(FinishReason.STOP)])


SAID = {"messages": [{"role": "user", "content": "hello"}]}
INCLUDED = {"stream_options": {"include_usage": True}}
COUNTED = {
    "/api": (SAID | INCLUDED, "prompt_tokens", "completion_tokens"),
    "/v1/chat/completions": (SAID | INCLUDED, "prompt_tokens", "completion_tokens"),
    "/v1/chat/completions?n": (SAID | INCLUDED | {"n": 2}, "prompt_tokens", "completion_tokens"),
    "/v1/completions": ({"prompt": "hello"} | INCLUDED, "prompt_tokens", "completion_tokens"),
    "/v1/responses": ({"input": "hello"}, "input_tokens", "output_tokens"),
    "/v1/messages": (SAID | {"max_tokens": 20}, "input_tokens", "output_tokens"),
    "/api/chat": (SAID, "prompt_eval_count", "eval_count"),
    "/api/generate": ({"prompt": "hello"}, "prompt_eval_count", "eval_count"),
}
"""By path: a body, and what the counts of the prompt and of the answer are called."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", COUNTED)
def test_every_format_tells_a_usage_also_where_the_engine_tells_none(path, stream):
    """Clients read it unasked: the Vercel AI SDK fails without, others add up nothing."""
    body, *names = COUNTED[path]

    async def play():
        async with Tap(engines=[Uncounted(Script(slots=4))], pace_interval=0) as tap:
            sent = body if stream else {name: value for name, value in body.items() if name not in INCLUDED}
            told = (await tap.send("POST", path.split("?")[0], {"model": "x", "stream": stream} | sent)).body.decode()
        prompt, written = (int(re.findall(rf'"{name}":(\d+)', told)[-1]) for name in names)
        assert prompt > 0
        assert written == 2 * body.get("n", 1)

    run(play())
