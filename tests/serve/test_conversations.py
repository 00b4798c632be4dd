"""Responses through the whole walk: kept and not kept, whole and streamed, by scripted engines on virtual time."""

import asyncio

import pytest

from standpipe.engines.scripted.script import Fault, FaultKind, Script
from tests import openai_schema
from tests.serve.driver import Reply, Request, scene

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


async def _get(tap, path, query):
    request = Request("GET", path, b"", {"host": "localhost"}, "192.0.2.1")
    request.query = query
    reply = Reply()
    await tap.app.guard(request, reply)
    return reply


@scene(Script(tokens=3), **KEEPING)
async def test_a_kept_response_is_not_streamed_again(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    reply = await _get(tap, f"{PATH}/{kept}", "stream=true&starting_after=3")
    assert (reply.status, reply.json["error"]["param"]) == (400, "stream")


@scene(Script(tokens=3), **KEEPING)
async def test_what_is_not_there_is_told_in_openais_words(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    for path, said in (
        (f"{PATH}/{kept}/output_items", "Response not found."),
        (f"{PATH}/{kept}x", f"Response with id '{kept}x' not found."),
        (f"{PATH}/resp_x", "Response with id 'resp_x' not found."),
        (f"{PATH}/resp_x/input_items", "Response with id 'resp_x' not found."),
        (f"{PATH}/..", "Response not found."),
    ):
        reply = await tap.send("GET", path)
        assert reply.status == 404
        assert reply.json["error"] == {
            "message": said,
            "type": "invalid_request_error",
            "param": None,
            "code": reply.json["error"]["code"],
        }


@scene(Script(tokens=3), **KEEPING)
async def test_what_led_to_a_response_is_listed_by_pages(tap):
    first = (await tap.send("POST", PATH, HELLO)).json["id"]
    kept = (await tap.send("POST", PATH, {"input": "More", "previous_response_id": first})).json["id"]
    at = f"{PATH}/{kept}/input_items"
    whole = (await tap.send("GET", at)).json
    assert [item["role"] for item in whole["data"]] == ["user", "assistant", "user"]
    assert whole["data"][0]["content"] == [{"type": "input_text", "text": "More"}]
    assert (whole["object"], whole["has_more"]) == ("list", False)
    assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][-1]["id"])
    page = await _get(tap, at, "limit=2&order=asc")
    assert page.json["data"] == whole["data"][:0:-1]
    assert page.json["has_more"]
    last = await _get(tap, at, f"limit=2&order=asc&after={page.json['last_id']}")
    assert (last.json["data"], last.json["has_more"]) == (whole["data"][:1], False)
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order")):
        refused = await _get(tap, at, query)
        assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert (await tap.send("GET", at, peer="192.0.2.2")).status == 404


@scene(Script(tokens=3), **KEEPING)
async def test_what_cannot_be_done_to_a_response_says_so(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    refused = await tap.send("POST", f"{PATH}/{kept}/cancel", {})
    assert (refused.status, "background" in refused.json["error"]["message"]) == (400, True)
    assert (await tap.send("POST", f"{PATH}/resp_x/cancel", {})).status == 404
    compacted = await tap.send("POST", f"{PATH}/compact", HELLO)
    assert (compacted.status, "not compacted" in compacted.json["error"]["message"]) == (400, True)


@scene(Script(tokens=3), **KEEPING)
async def test_input_is_counted_without_an_engine(tap):
    kept = (await tap.send("POST", PATH, HELLO)).json["id"]
    alone = await tap.send("POST", f"{PATH}/input_tokens", {"input": "Hello there, you."})
    assert alone.json == {"object": "response.input_tokens", "input_tokens": alone.json["input_tokens"]}
    longer = await tap.send(
        "POST", f"{PATH}/input_tokens", {"input": "Hello there, you.", "previous_response_id": kept}
    )
    assert longer.json["input_tokens"] > alone.json["input_tokens"] > 0
    assert len(tap.asks) == 1


# Items of earlier answers --------------------------------------------------------------------------------------------


def referring(response, **more):
    references = [{"type": "item_reference", "id": item["id"]} for item in response["output"]]
    return {"input": [{"role": "user", "content": "One"}, *references, {"role": "user", "content": "Two"}], **more}


def listening(tap):
    said: list[list[str]] = []
    tap.engines[0].answer = _listening(tap.engines[0].answer, said)
    return said


@pytest.mark.parametrize("settings", [{}, {"keep_responses": 600}], ids=["by default", "keeping"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_second_turn_refers_to_items_of_the_first(stream, settings):
    @scene(Script(text="echo"), pace_interval=0, **settings)
    async def conversation(tap):
        said = listening(tap)
        first = await tap.send("POST", PATH, {"input": "One", "stream": stream})
        second = await tap.send("POST", PATH, referring(final(first) if stream else first.json, stream=stream))
        assert second.status == 200
        assert said[1] == ["One", "One", "Two"]
        assert "x-standpipe-dropped" not in second.headers

    conversation()


NOTE = "[something said earlier that is no longer known here]"


@scene(Script(text="echo"), pace_interval=0)
async def test_to_another_client_an_item_does_not_exist(tap):
    said = listening(tap)
    first = await tap.send("POST", PATH, {"input": "One"})
    second = await tap.send("POST", PATH, referring(first.json), peer="192.0.2.2")
    assert said[1] == ["One", NOTE, "Two"]
    assert second.headers["x-standpipe-dropped"] == "input[1]"
    unknown = {"output": [{"id": "msg_00_0"}]}
    assert (await tap.send("POST", PATH, referring(unknown), peer="192.0.2.2")).status == 200
    assert said[2] == said[1]


@scene(Script(text="echo"), pace_interval=0, hold_answers=600)
async def test_items_are_held_as_long_as_they_are_used(tap):
    said = listening(tap)
    first = await tap.send("POST", PATH, {"input": "One"})
    for _ in range(3):
        await asyncio.sleep(599)
        await tap.send("POST", PATH, referring(first.json, store=False))
    await asyncio.sleep(611)
    assert len(tap.app.held) == 0
    await tap.send("POST", PATH, referring(first.json, store=False))
    assert [turn[1] for turn in said[1:]] == ["One", "One", "One", NOTE]


@scene(Script(text="echo"), pace_interval=0)
async def test_who_says_no_is_not_held(tap):
    said = listening(tap)
    first = await tap.send("POST", PATH, {"input": "One", "store": False})
    assert len(tap.app.held) == 0
    await tap.send("POST", PATH, referring(first.json))
    assert said[1][1] == NOTE


@scene(Script(text="echo"), pace_interval=0, hold_answers=0)
async def test_an_operator_may_hold_nothing(tap):
    first = await tap.send("POST", PATH, {"input": "One"})
    assert (await tap.send("POST", PATH, referring(first.json))).headers["x-standpipe-dropped"] == "input[1]"
    assert tap.app.held is None


@scene(Script(tokens=9, fault=Fault(FaultKind.CUT, 3)), pace_interval=0)
async def test_half_an_answer_is_not_held(tap):
    await tap.send("POST", PATH, HELLO | {"stream": True})
    assert len(tap.app.held) == 0


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
        assert tap.center.line.statistics().bytes > 7000 * len("water ")
    assert running.result().status == waiting.result().status == 200


@scene(Script(tokens=3))
async def test_a_legacy_completion_is_given_whole_or_streamed(tap):
    whole = await tap.send("POST", "/v1/completions", {"prompt": "hello"})
    assert whole.json["object"] == "text_completion"
    streamed = await tap.send("POST", "/v1/completions", {"prompt": "hello", "stream": True})
    assert streamed.frames[-1] == "[DONE]"
    said = "".join(frame["choices"][0]["text"] for frame in streamed.frames[:-1])
    assert said == whole.json["choices"][0]["text"]
