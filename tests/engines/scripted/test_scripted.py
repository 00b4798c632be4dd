"""The scripted engine: its script, what it says, when it says it, and how it fails."""

from __future__ import annotations

import asyncio
import json

import pytest

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Answer, Finished, FinishReason, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.engines.scripted.script import KEYS, Fault, FaultKind, Script, read_script
from standpipe.engines.scripted.scripted import Scripted
from tests.virtual import Collected, VirtualLoop, run

HELLO = Ask(messages=(Message(Role.USER, (Text("Hello there, how are you?"),)),))
WEATHER = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1},
            "unit": {"type": "string"},
        },
        "required": ["city", "days"],
    },
)
CLOCK = Tool("get_time")


def with_tools(choice: ToolChoice | None = None, *more: Message) -> Ask:
    return Ask(messages=(*HELLO.messages, *more), tools=(CLOCK, WEATHER), tool_choice=choice)


def collect(url: str, ask: Ask = HELLO) -> Collected:
    async def scene() -> Collected:
        sink = Collected()
        await Scripted(read_script(url)).answer(ask, sink)
        return sink

    return run(scene())


def answer(url: str = "scripted:", ask: Ask = HELLO) -> Answer:
    return collect(url, ask).answer


def fail(url: str, sink: Collected, ask: Ask = HELLO) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        run(Scripted(read_script(url)).answer(ask, sink))
    return caught.value


# The script


def test_an_empty_script_is_all_defaults():
    assert read_script("scripted:") == read_script("scripted:?") == Script()


def test_every_key_is_read():
    url = (
        "scripted:?name=one&first=0.2&rate=50&tokens=12&slots=8&reasoning=3&tool=get_weather&fault=cut:12&faults=2"
        "&seed=1&text=a%20cup+of+tea&model=gpt-oss:latest"
    )
    assert read_script(url) == Script(
        name="one",
        model="gpt-oss:latest",
        slots=8,
        first=0.2,
        rate=50.0,
        tokens=12,
        reasoning=3,
        seed=1,
        text="a cup of tea",
        tool="get_weather",
        fault=Fault(FaultKind.CUT, 12),
        faults=2,
    )


def test_every_field_of_a_script_has_a_key():
    assert set(Script.__struct_fields__) == set(KEYS)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("speed=3", ["'speed'", "'3'", "rate"]),
        ("rate=fast", ["rate", "'fast'", "from 0 to"]),
        ("rate=-1", ["rate", "'-1'", "from 0 to"]),
        ("rate=nan", ["rate", "'nan'", "from 0 to"]),
        ("first=inf", ["first", "'inf'", "3600"]),
        ("tokens=0", ["tokens", "'0'", "from 1"]),
        ("tokens=1.5", ["tokens", "'1.5'", "integer"]),
        ("slots=5000", ["slots", "'5000'", "4096"]),
        ("model=", ["model", "''", "not empty"]),
        ("fault=explode", ["fault", "'explode'", "refuse"]),
        ("fault=cut", ["fault", "'cut'", "cut:N"]),
        ("fault=cut:x", ["fault", "'cut:x'", "cut:N"]),
        ("fault=hang:3", ["fault", "'hang:3'", "hang"]),
        ("fault=status:200", ["fault", "'status:200'", "status:400"]),
        ("faults=0", ["faults", "'0'", "from 1"]),
        ("seed=1&seed=2", ["seed", "'2'", "once"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(query, named):
    with pytest.raises(ValueError) as caught:
        read_script(f"scripted:?{query}")
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost/", "scripted", "scripted://host?rate=1", "scripted:rate=1"])
def test_what_is_no_script_is_refused(url):
    with pytest.raises(ValueError, match="scripted:"):
        read_script(url)


# What it says


def test_it_says_as_many_words_as_told_and_counts_them():
    whole = answer("scripted:?tokens=12&model=m")
    assert len(whole.text.split()) == 12
    assert whole.reason is FinishReason.STOP
    assert whole.model == "m"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.reasoning_tokens) == (5, 12, 0)


def test_the_same_ask_gets_the_same_answer_and_another_seed_another_one():
    seeded = Ask(HELLO.messages, sampling=Sampling(seed=7))
    assert answer() == answer()
    assert len({answer().text, answer("scripted:?seed=1").text, answer(ask=seeded).text}) == 3


def test_another_question_gets_another_answer():
    other = Ask(messages=(Message(Role.USER, (Text("Hello"),)),))
    assert answer().text != answer(ask=other).text


def test_a_given_text_is_said_word_for_word():
    assert answer("scripted:?text=Tea,%20%20please.%0A").text == "Tea,  please.\n"


def test_echo_repeats_the_last_user_message():
    talk = (*HELLO.messages, Message(Role.ASSISTANT, (Text("Fine."),)), Message(Role.USER, (Text("And  now?"),)))
    assert answer("scripted:?text=echo", Ask(talk)).text == "And  now?"


def test_reasoning_comes_first_and_is_counted():
    sink = collect("scripted:?reasoning=3&tokens=2")
    assert [type(event) for event in sink.events] == [Started, *[ReasoningDelta] * 3, *[TextDelta] * 2, Finished]
    assert sink.answer.usage is not None
    assert (sink.answer.usage.completion_tokens, sink.answer.usage.reasoning_tokens) == (5, 3)


def test_max_tokens_counts_reasoning_too():
    whole = answer("scripted:?reasoning=3&tokens=9", Ask(HELLO.messages, sampling=Sampling(max_tokens=5)))
    assert (len(whole.reasoning.split()), len(whole.text.split())) == (3, 2)
    assert whole.reason is FinishReason.LENGTH


def test_an_answer_that_just_fits_is_not_cut():
    assert (
        answer("scripted:?tokens=5", Ask(HELLO.messages, sampling=Sampling(max_tokens=5))).reason is FinishReason.STOP
    )


def test_text_ends_before_the_first_stop_string_even_inside_a_word():
    ask = Ask(HELLO.messages, sampling=Sampling(stop=("unused", "our", "ee f")))
    whole = answer("scripted:?text=one%20two%20three%20four", ask)
    assert whole.text == "one two thr"
    assert (whole.reason, whole.stop) == (FinishReason.STOP, "ee f")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3


def test_an_answer_that_its_limit_cut_was_ended_by_no_stop_string():
    ask = Ask(HELLO.messages, sampling=Sampling(stop=("four",), max_tokens=2))
    whole = answer("scripted:?text=one%20two%20three%20four", ask)
    assert (whole.reason, whole.stop) == (FinishReason.LENGTH, None)


def test_a_stop_string_at_the_start_leaves_no_text():
    sink = collect("scripted:?text=one%20two", Ask(HELLO.messages, sampling=Sampling(stop=("one",))))
    assert [type(event) for event in sink.events] == [Started, Finished]


def test_logprobs_come_with_every_token_when_asked():
    whole = answer("scripted:?text=two%20cafés", Ask(HELLO.messages, sampling=Sampling(logprobs=True, top_logprobs=2)))
    assert [entry.token for entry in whole.logprobs] == ["two", " cafés"]
    assert all(len(entry.top) == 2 and entry.top[0].token == entry.token for entry in whole.logprobs)
    assert whole.logprobs[1].bytes == tuple(" cafés".encode())
    assert all(entry.top[0].logprob > entry.top[1].logprob for entry in whole.logprobs)


def test_logprobs_without_rivals_and_none_when_not_asked():
    assert answer("scripted:?tokens=2", Ask(HELLO.messages, sampling=Sampling(logprobs=True))).logprobs[0].top == ()
    assert answer().logprobs == ()


# Tools and formats


def test_the_scripts_tool_is_called_with_arguments_that_fit():
    sink = collect("scripted:?tool=get_weather", with_tools())
    (call,) = sink.answer.tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "text", "days": 1}
    assert sink.answer.reason is FinishReason.TOOL_CALLS
    first, *rest = (event for event in sink.events if isinstance(event, ToolCallDelta))
    assert (first.id, first.name) == (call.id, "get_weather")
    assert len(rest) > 1
    assert all(delta.id is None and delta.name is None for delta in rest)


def test_a_tool_that_is_not_declared_is_not_called():
    assert answer("scripted:?tool=other", with_tools()).tool_calls == ()
    assert answer("scripted:?tool=get_weather").tool_calls == ()


@pytest.mark.parametrize(
    ("script", "choice", "called"),
    [
        ("scripted:", None, None),
        ("scripted:", ToolChoice(ToolMode.REQUIRED), "get_time"),
        ("scripted:?tool=get_weather", ToolChoice(ToolMode.REQUIRED), "get_weather"),
        ("scripted:?tool=get_weather", ToolChoice(ToolMode.NAMED, "get_time"), "get_time"),
        ("scripted:?tool=get_weather", ToolChoice(ToolMode.NONE), None),
        ("scripted:?tool=get_weather", ToolChoice(ToolMode.AUTO), "get_weather"),
    ],
)
def test_the_tool_choice_is_obeyed(script, choice, called):
    calls = answer(script, with_tools(choice)).tool_calls
    assert [call.name for call in calls] == ([] if called is None else [called])


def test_a_tool_without_parameters_gets_an_empty_object():
    (call,) = answer("scripted:", with_tools(ToolChoice(ToolMode.REQUIRED))).tool_calls
    assert json.loads(call.arguments) == {}


def test_after_a_tools_result_it_talks():
    turn = Message(Role.ASSISTANT, (ToolCall("c1", "get_time", "{}"),)), Message(Role.TOOL, (ToolResult("c1", "noon"),))
    whole = answer("scripted:?tool=get_time", with_tools(ToolChoice(ToolMode.REQUIRED), *turn))
    assert whole.tool_calls == ()
    assert whole.text


def test_it_calls_in_as_many_turns_as_its_script_says():
    turn = Message(Role.ASSISTANT, (ToolCall("c1", "get_time", "{}"),)), Message(Role.TOOL, (ToolResult("c1", "noon"),))
    beside = (*turn, Message(Role.TOOL, (ToolResult("c2", "one"),)))  # of two calls in one turn
    for turns, calls in ((), 1), (turn, 1), (beside, 1), (turn + turn, 0):
        assert len(answer("scripted:?tool=get_time&calls=2", with_tools(None, *turns)).tool_calls) == calls


def test_a_later_question_may_call_again_with_another_id():
    turn = (
        Message(Role.ASSISTANT, (ToolCall("c1", "get_time", "{}"),)),
        Message(Role.TOOL, (ToolResult("c1", "noon"),)),
        Message(Role.ASSISTANT, (Text("It is noon."),)),
        HELLO.messages[0],
    )
    (first,) = answer("scripted:?tool=get_time", with_tools()).tool_calls
    (second,) = answer("scripted:?tool=get_time", with_tools(None, *turn)).tool_calls
    assert first.id != second.id


def test_a_json_format_gets_a_json_document():
    assert json.loads(answer(ask=Ask(HELLO.messages, format=OutputFormat(FormatKind.JSON_OBJECT))).text) == {}


def test_a_schema_gets_a_document_that_fits():
    schema = {
        "$defs": {"line": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}},
        "type": "object",
        "properties": {
            "kind": {"enum": ["tea", "coffee"]},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 2},
            "note": {"type": ["null", "string"], "minLength": 6},
            "sure": {"type": "boolean"},
            "way": {"anyOf": [{"const": "up"}, {"const": "down"}]},
            "left": {"type": "string"},
        },
        "required": ["kind", "lines", "note", "sure", "way"],
    }
    ask = Ask(HELLO.messages, format=OutputFormat(FormatKind.JSON_SCHEMA, schema, "order"))
    assert json.loads(answer(ask=ask).text) == {
        "kind": "tea",
        "lines": [{"n": 0}, {"n": 0}],
        "note": "textxx",
        "sure": True,
        "way": "up",
    }


# When it says it


def test_without_a_rate_nothing_takes_time_and_batches_are_whole():
    sink = collect("scripted:?tokens=100")
    assert set(sink.at) == {0.0}
    assert [len(batch) for batch in sink.batches] == [1 + 64, 36 + 1]


def test_a_short_answer_without_a_rate_is_one_batch():
    assert len(collect("scripted:?tokens=10").batches) == 1


def test_first_token_and_rate_are_kept_to():
    sink = collect("scripted:?first=0.5&rate=10&tokens=4")
    assert sink.at == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert isinstance(sink.batches[0][0], Started)
    assert isinstance(sink.batches[-1][-1], Finished)
    assert sink.answer.timings is not None
    assert (sink.answer.timings.prompt_seconds, sink.answer.timings.generation_seconds) == pytest.approx((0.5, 0.4))


def test_lateness_does_not_add_up():
    async def scene() -> list[float]:
        sink = Collected()
        task = asyncio.create_task(Scripted(read_script("scripted:?rate=10&tokens=6")).answer(HELLO, sink))
        await asyncio.sleep(0.15)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.skip(0.2)  # the machine was busy
        await task
        return sink.at

    assert run(scene()) == pytest.approx([0.0, 0.1, 0.35, 0.35, 0.4, 0.5])


def test_it_holds_back_when_told_to():
    async def scene() -> tuple[int, int]:
        sink = Collected()
        task = asyncio.create_task(Scripted(read_script("scripted:?rate=10&tokens=20")).answer(HELLO, sink))
        await asyncio.sleep(0.45)
        flow = sink.flow
        assert flow is not None
        flow.pause()
        before = len(sink.batches)
        await asyncio.sleep(60)
        held = len(sink.batches) - before
        flow.resume()
        await task
        assert sink.flow is None
        return held, len(sink.answer.text.split())

    assert run(scene()) == (0, 20)


# How it fails


def test_a_refused_connection_says_nothing_and_takes_the_engine_down():
    sink = Collected()
    assert fail("scripted:?fault=refuse&first=5", sink).upstream_status is None
    assert sink.events == []

    async def scene() -> None:
        engine = Scripted(read_script("scripted:?fault=refuse"))
        assert not (await engine.health()).up
        with pytest.raises(EngineFailed):
            await engine.models()

    run(scene())


def test_a_status_is_carried_by_the_failure():
    sink = Collected()
    assert fail("scripted:?fault=status:503", sink).upstream_status == 503
    assert sink.events == []


@pytest.mark.parametrize("kind", ["cut", "malformed"])
@pytest.mark.parametrize(("after", "said"), [(0, 0), (3, 3), (70, 70), (500, 100)])
def test_it_breaks_off_after_so_many_tokens_and_never_looks_finished(kind, after, said):
    sink = Collected()
    fail(f"scripted:?tokens=100&fault={kind}:{after}", sink)
    assert isinstance(sink.events[0], Started)
    assert [type(event) for event in sink.events[1:]] == [TextDelta] * said


def test_a_hanging_engine_says_nothing_and_can_be_cancelled():
    async def scene() -> Collected:
        engine, sink = Scripted(read_script("scripted:?fault=hang")), Collected()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.answer(HELLO, sink), 1000)
        assert engine.busy == 0
        return sink

    assert run(scene()).events == []


def test_a_stalling_engine_falls_silent():
    async def scene() -> Collected:
        sink = Collected()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Scripted(read_script("scripted:?fault=stall:3&rate=10")).answer(HELLO, sink), 1000)
        return sink

    sink = run(scene())
    assert sink.at == pytest.approx([0.0, 0.1, 0.2])
    assert isinstance(sink.events[-1], TextDelta)


def test_an_empty_answer_is_finished_without_a_word():
    sink = collect("scripted:?fault=empty")
    assert [type(event) for event in sink.events] == [Started, Finished]
    assert sink.answer.usage is not None
    assert sink.answer.usage.completion_tokens == 0


def test_faults_strike_only_the_first_asks():
    async def scene() -> None:
        engine = Scripted(read_script("scripted:?fault=refuse&faults=2"))
        for _ in range(2):
            with pytest.raises(EngineFailed):
                await engine.answer(HELLO, Collected())
        await engine.answer(HELLO, Collected())
        assert (await engine.health()).up
        assert (engine.asked, engine.failed, engine.finished) == (3, 2, 1)

    run(scene())


# What it counts


def test_it_counts_the_asks_it_worked_on_at_a_time():
    async def scene() -> None:
        engine = Scripted(read_script("scripted:?first=1"))
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(engine.answer(HELLO, Collected()))
            await asyncio.sleep(0.5)
            assert engine.busy == 3
        assert (engine.busy, engine.most, engine.finished) == (0, 3, 3)

    run(scene())


def test_a_sink_that_raises_ends_the_answer_and_is_let_through():
    class Enough(Exception):
        pass

    class Full(Collected):
        def take(self, events):
            super().take(events)
            if len(self.batches) == 3:
                raise Enough

    async def scene() -> None:
        engine, sink = Scripted(read_script("scripted:?rate=10")), Full()
        with pytest.raises(Enough):
            await engine.answer(HELLO, sink)
        assert sink.flow is None
        assert (engine.busy, engine.cancelled) == (0, 1)

    run(scene())
