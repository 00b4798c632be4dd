from typing import Any

import msgspec
import pytest

from standpipe.chat.ask import Message, Reasoning, Role, Text, ToolCall, ToolResult
from standpipe.chat.errors import InvalidAsk, PreviousNotFound
from standpipe.dialects.bounds import MESSAGES
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses.kept import (
    Answered,
    Turn,
    input_items,
    joined,
    marked,
    not_found,
    pack,
    place_of,
    previous,
    unpack,
)
from standpipe.dialects.openai.responses.request import OpenAIResponses

DIALECT = OpenAIResponses(keeps=True)
EARLIER = Turn(
    b'{"id":"resp_1"}',
    (Message(Role.USER, (Text("What is the weather?"),)),),
    (Message(Role.ASSISTANT, (Reasoning("Hm."), ToolCall("call_1", "get_weather", "{}"))),),
)
SAID = (*EARLIER.asked, *EARLIER.answer)


def keep(answered: Answered) -> None:
    raise AssertionError("nothing was answered")


def parse(**body: Any) -> Parsed:
    return DIALECT.parse(msgspec.json.encode({"input": "Hello!", **body}))


def test_a_conversation_goes_on_from_what_was_kept():
    result = {"type": "function_call_output", "call_id": "call_1", "output": "7 °C"}
    went_on = joined(parse(input=[result], previous_response_id="resp_1"), EARLIER)
    assert went_on.ask.messages == (*SAID, Message(Role.TOOL, (ToolResult("call_1", "7 °C"),)))


def test_instructions_are_those_of_the_new_ask_and_stay_first():
    went_on = joined(parse(instructions="Be brief.", previous_response_id="resp_1"), EARLIER)
    assert went_on.ask.messages == (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        *SAID,
        Message(Role.USER, (Text("Hello!"),)),
    )


def test_what_is_kept_has_its_own_id_and_says_so():
    kept = marked(parse(), "0123abcd", keep, stored=True)
    assert (kept.echo.outline.id, kept.echo.outline.store, kept.echo.mark) == ("resp_0123abcd", True, "0123abcd")
    assert not marked(parse(), "0123abcd", keep, stored=False).echo.outline.store
    assert joined(parse(), None) == parse()


def test_a_conversation_is_bounded():
    long = Turn(b"{}", SAID * (MESSAGES // 2))
    with pytest.raises(InvalidAsk) as caught:
        joined(parse(previous_response_id="resp_1"), long)
    assert caught.value.param == "previous_response_id"
    assert joined(parse(previous_response_id="resp_1"), Turn(b"{}", long.asked[1:])).ask.messages


@pytest.mark.parametrize("item", ["", "msg_1", "msg__1", "msg_a_-1", "msg_a_12345", "MSG_a_1", "msg_ä_1", "x" * 5000])
def test_what_is_no_id_of_an_item_of_ours_is_in_no_place(item):
    assert place_of(item) is None


def test_what_led_to_a_response_is_told_as_items():
    result = Message(Role.TOOL, (ToolResult("call_1", "7 °C"),))
    told = msgspec.json.decode(msgspec.json.encode(input_items(Turn(b"{}", (*SAID, result)), "x")))
    assert told == [
        {
            "type": "message",
            "id": "msg_x_in0",
            "role": "user",
            "content": [{"type": "input_text", "text": "What is the weather?"}],
        },
        {
            "type": "reasoning",
            "id": "rs_x_in1",
            "status": "completed",
            "content": [{"type": "reasoning_text", "text": "Hm."}],
            "summary": [],
        },
        {
            "type": "function_call",
            "id": "fc_x_in2",
            "status": "completed",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": "{}",
        },
        {
            "type": "function_call_output",
            "id": "fco_x_in3",
            "status": "completed",
            "call_id": "call_1",
            "output": "7 °C",
        },
    ]


def test_an_id_that_can_be_none_is_not_looked_for_and_not_repeated():
    assert previous(parse()) is None
    assert previous(parse(previous_response_id="resp_1")) == "resp_1"
    with pytest.raises(PreviousNotFound) as caught:
        previous(parse(previous_response_id="resp_<script>"))
    assert caught.value.message == "Previous response not found."


def test_what_is_not_there_is_said_in_openais_words():
    failure = not_found("resp_1")
    assert msgspec.json.decode(DIALECT.failure(failure, "7Yd2k"))["error"] == {
        "message": "Previous response with id 'resp_1' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
    assert failure.status == 400


def test_a_turn_can_be_put_away_as_bytes():
    assert unpack(pack(EARLIER)) == EARLIER
