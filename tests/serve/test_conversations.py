"""Responses through the whole walk: kept and not kept, whole and streamed, by scripted engines on virtual time."""

import asyncio

import pytest

from standpipe.engines.scripted.script import Fault, FaultKind, Script
from tests import openai_schema
from tests.serve.driver import Reply, scene

KEEPING = {"keep_responses": 600, "pace_interval": 0}
HELLO = {"input": "hello"}
PATH = "/v1/responses"


def text(response):
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def final(reply):
    return openai_schema.decoded(reply.body)[-1]["response"]


@scene(Script(tokens=5, reasoning=2))
async def test_an_answer_is_given_whole_or_streamed_and_is_the_same(tap):
    whole = await tap.send("POST", PATH, HELLO)
    assert (whole.status, whole.end_kind) == (200, "end")
    streamed = await tap.send("POST", PATH, HELLO | {"stream": True})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert text(final(streamed)) == text(whole.json)
    assert [item["type"] for item in whole.json["output"]] == ["reasoning", "message"]


@scene(Script(tokens=5))
async def test_nothing_is_kept_unless_the_operator_wants_it(tap):
    reply = await tap.send("POST", PATH, HELLO | {"store": True})
    assert reply.json["store"] is False
    assert (await tap.send("GET", f"{PATH}/{reply.json['id']}")).status == 404
    refused = await tap.send("POST", PATH, HELLO | {"previous_response_id": reply.json["id"]})
    assert (refused.status, refused.json["error"]["param"]) == (400, "previous_response_id")


@pytest.mark.parametrize("stream", [True, False])
def test_a_conversation_goes_on(stream):
    @scene(Script(text="echo"), **KEEPING)
    async def conversation(tap):
        said: list[list[str]] = []
        tap.engines[0].answer = _listening(tap.engines[0].answer, said)
        first = await tap.send("POST", PATH, {"input": "One", "instructions": "Be brief.", "stream": stream})
        kept = final(first) if stream else first.json
        assert kept["store"] is True
        second = await tap.send("POST", PATH, {"input": "Two", "previous_response_id": kept["id"]})
        assert second.json["previous_response_id"] == kept["id"]
        third = await tap.send("POST", PATH, {"input": "Three", "previous_response_id": second.json["id"]})
        assert third.status == 200
        assert said == [
            ["Be brief.", "One"],
            ["One", "One", "Two"],
            ["One", "One", "Two", "Two", "Three"],
        ]

    conversation()


def _listening(answer, said):
    async def listen(ask, sink):
        said.append([message.text for message in ask.messages])
        await answer(ask, sink)

    return listen


@scene(Script(tokens=3), system_prompt="The operator's.", **KEEPING)
async def test_the_operators_prompt_is_not_kept(tap):
    said: list[list[str]] = []
    tap.engines[0].answer = _listening(tap.engines[0].answer, said)
    first = await tap.send("POST", PATH, HELLO)
    await tap.send("POST", PATH, {"input": "more", "previous_response_id": first.json["id"]})
    assert said[1][0] == "The operator's."
    assert sum("operator" in one for one in said[1]) == 1
    assert b"operator" not in (await tap.send("GET", f"{PATH}/{first.json['id']}")).body


@scene(Script(tokens=3), **KEEPING)
async def test_a_kept_response_can_be_had_again_and_deleted(tap):
    streamed = await tap.send("POST", PATH, HELLO | {"stream": True})
    for reply, response in ((streamed, final(streamed)), ((whole := await tap.send("POST", PATH, HELLO)), whole.json)):
        assert reply.end_kind == "end"
        at = f"{PATH}/{response['id']}"
        again = await tap.send("GET", at)
        assert (again.status, again.json) == (200, response)
        assert again.headers["cache-control"] == "no-store"
        deleted = await tap.send("DELETE", at)
        assert deleted.json == {"id": response["id"], "object": "response", "deleted": True}
        assert (await tap.send("GET", at)).status == 404
        assert (await tap.send("DELETE", at)).status == 404
        gone = await tap.send("POST", PATH, {"input": "more", "previous_response_id": response["id"]})
        assert gone.json["error"]["code"] == "previous_response_not_found"


@scene(Script(tokens=3), **KEEPING)
async def test_strangers_do_not_get_it(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    assert (await tap.send("GET", f"{PATH}/{kept}", peer="192.0.2.2")).status == 404
    assert (await tap.send("DELETE", f"{PATH}/{kept}", peer="192.0.2.2")).status == 404
    body = {"input": "more", "previous_response_id": kept}
    refused = await tap.send("POST", PATH, body, peer="192.0.2.2")
    assert (refused.status, refused.json["error"]["code"]) == (400, "previous_response_not_found")
    assert (await tap.send("GET", f"{PATH}/{kept}")).status == 200


@scene(Script(tokens=3), **KEEPING)
async def test_ids_are_long_and_not_those_of_the_log(tap):
    replies = [await tap.send("POST", PATH, HELLO) for _ in range(3)]
    ids = {reply.json["id"] for reply in replies}
    assert len(ids) == 3
    for reply in replies:
        assert len(reply.json["id"]) >= len("resp_") + 32
        assert reply.json["id"].removeprefix("resp_") not in tap.log.getvalue()
        assert reply.headers["x-request-id"] not in reply.json["id"]


@scene(Script(tokens=3), **KEEPING)
async def test_it_is_kept_for_its_time_and_no_longer_whether_anybody_asks_or_not(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    await asyncio.sleep(599)
    assert (await tap.send("GET", f"{PATH}/{kept}")).status == 200
    await asyncio.sleep(12)
    assert len(tap.app.kept) == 0
    assert (await tap.send("GET", f"{PATH}/{kept}")).status == 404


@scene(Script(tokens=3), **KEEPING)
async def test_what_shall_not_be_kept_is_not(tap):
    reply = await tap.send("POST", PATH, HELLO | {"store": False})
    assert reply.json["store"] is False
    assert len(tap.app.kept) == 0


@scene(Script(tokens=9, fault=Fault(FaultKind.CUT, 3)), **KEEPING)
async def test_half_an_answer_is_not_kept(tap):
    streamed = await tap.send("POST", PATH, HELLO | {"stream": True})
    assert (streamed.end_kind, final(streamed)["status"]) == ("abort", "failed")
    assert (await tap.send("POST", PATH, HELLO)).status == 502
    assert len(tap.app.kept) == 0


@scene(Script(tokens=50, rate=10), **KEEPING)
async def test_an_answer_that_nobody_waited_for_is_not_kept(tap):
    reply = Reply()
    asking = asyncio.get_running_loop().create_task(tap.send("POST", PATH, HELLO | {"stream": True}, reply=reply))
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.wait((asking,))
    assert len(tap.app.kept) == 0


@scene(Script(tokens=30), max_tokens=4, **KEEPING)
async def test_an_answer_that_reached_the_cap_is_kept_as_incomplete(tap):
    reply = await tap.send("POST", PATH, HELLO)
    assert reply.json["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (await tap.send("GET", f"{PATH}/{reply.json['id']}")).json == reply.json


@scene(Script(tokens=3), **KEEPING)
async def test_a_kept_response_is_not_streamed_again(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    await _with_query(tap, kept)


async def _with_query(tap, kept):
    from tests.serve.driver import Request

    request = Request("GET", f"{PATH}/{kept}", b"", {"host": "localhost"}, "192.0.2.1")
    request.query = "stream=true&starting_after=3"
    reply = Reply()
    await tap.app.guard(request, reply)
    assert (reply.status, reply.json["error"]["param"]) == (400, "stream")


@scene(Script(tokens=3), **KEEPING)
async def test_nothing_below_a_response_exists(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    for path in (f"{PATH}/{kept}/input_items", f"{PATH}/{kept}/", f"{PATH}/resp_x", f"{PATH}/.."):
        reply = await tap.send("GET", path)
        assert reply.status == 404
        assert reply.json["error"]["type"] == "invalid_request_error"


@scene(Script(tokens=2, first=3, slots=1), commit_after=0.5, heartbeat=1, pace_interval=0)
async def test_the_place_in_line_is_told_while_it_waits(tap):
    async with asyncio.TaskGroup() as group:
        first = group.create_task(tap.send("POST", PATH, HELLO | {"stream": True}, peer="192.0.2.1"))
        second = group.create_task(tap.send("POST", PATH, HELLO | {"stream": True}, peer="192.0.2.2"))
    kinds = [event["type"] for event in openai_schema.decoded(first.result().body)]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.in_progress"]
    waited = openai_schema.decoded(second.result().body)
    assert waited[0]["response"]["status"] == "queued"
    assert {event["queue"]["position"] for event in waited if event["type"] == "response.queued"} == {1}
    assert waited[-1]["type"] == "response.completed"


@scene(Script(tokens=2, first=3, slots=1), **KEEPING)
async def test_a_kept_conversation_that_waits_is_counted_with_what_waits(tap):
    kept = (await tap.send("POST", PATH, {"input": "water " * 7000})).json["id"]
    going_on = {"input": "more", "previous_response_id": kept}
    async with asyncio.TaskGroup() as group:
        running, waiting = (group.create_task(tap.send("POST", PATH, going_on)) for _ in range(2))
        await asyncio.sleep(1)
        assert tap.app.line.statistics().bytes > 7000 * len("water ")
    assert running.result().status == waiting.result().status == 200


@scene(Script(tokens=3))
async def test_a_legacy_completion_is_given_whole_or_streamed(tap):
    whole = await tap.send("POST", "/v1/completions", {"prompt": "hello"})
    assert whole.json["object"] == "text_completion"
    streamed = await tap.send("POST", "/v1/completions", {"prompt": "hello", "stream": True})
    assert streamed.frames[-1] == "[DONE]"
    said = "".join(frame["choices"][0]["text"] for frame in streamed.frames[:-1])
    assert said == whole.json["choices"][0]["text"]
