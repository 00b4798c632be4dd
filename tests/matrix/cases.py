"""What is asked of every engine, through Standpipe's public API, and how each answer is judged.

A case gives a remark, or nothing, where all is as it should be; it raises Cannot where the engine cannot do this and
the client learns so, and Wrong where Standpipe lets a client believe what is not true. Models here are tiny, so form is
judged and never sense: what a model wrote is free, what a grammar forces is not.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from time import monotonic
from typing import Any

from tests.matrix.talk import Cannot, Said, Tap, Wrong, accepted, must

SHORT = 24
"""Tokens of an answer that is only looked at."""
ROOM = 200
"""Tokens within which JSON that a grammar holds is complete."""
QUESTION = "Write one sentence about rain in the mountains."
SYSTEM = {"role": "system", "content": "You are the keeper of a lighthouse and answer in short sentences. " * 3}
FIXED: dict[str, Any] = {"temperature": 0}


def _tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
    }  # fmt: skip
    function = {"name": name, "description": f"Use {name}.", "parameters": parameters}
    return {"type": "function", "function": function}


WEATHER = _tool("get_weather", city={"type": "string", "enum": ["Oslo", "Lima"]})
CLOCK = _tool("get_time", zone={"type": "string", "enum": ["UTC", "CET"]})
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "wet": {"type": "boolean"}},
    "required": ["colour", "wet"],
    "additionalProperties": False,
}
BIRD = "🦜 naïve 漢字 👩‍🚀"


# Plain answers --------------------------------------------------------------------------------------------------------


def whole(tap: Tap) -> None:
    said = tap.chat(QUESTION, max_tokens=SHORT)
    must(said.text.strip(), "an answer without a word")
    must(said.finish in {"stop", "length"}, f"it ended with {said.finish}")
    must(said.model == tap.model, f"the answer names {said.model}")


def stream(tap: Tap) -> None:
    said = tap.chat(QUESTION, stream=True, max_tokens=SHORT)
    must(said.text.strip(), "an answer without a word")
    must(said.pieces > 1, "a stream in one piece")
    must(said.model == tap.model, f"the answer names {said.model}")


def same(tap: Tap) -> str | None:
    """A stream and a whole answer say the same when nothing is left to chance."""
    pair = [tap.chat(QUESTION, stream=stream, max_tokens=SHORT, **FIXED) for stream in (False, True)]
    return None if pair[0].text == pair[1].text else "not the same words twice"


def usage(tap: Tap) -> None:
    for stream in (False, True):
        told = tap.chat(QUESTION, stream=stream, max_tokens=SHORT).usage
        if told is None:
            raise Cannot("no usage is told")
        must(told["prompt_tokens"] > 5, f"usage is {told}")
        must(1 <= told["completion_tokens"] <= SHORT, f"usage is {told}")
        must(told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"], f"usage is {told}")


def length(tap: Tap) -> None:
    for stream in (False, True):
        said = tap.chat(QUESTION, stream=stream, max_tokens=4)
        must(said.finish == "length", f"four tokens end with {said.finish}")
        must(said.usage is None or said.usage["completion_tokens"] <= 4, f"four tokens are {said.usage}")


def stop(tap: Tap) -> None:
    """A word that the model is known to write ends its answer, in each format that tells so."""
    said = tap.chat(QUESTION, max_tokens=SHORT, **FIXED).text
    word = next((w for w in said.split()[2:] if len(w) > 2), "")
    must(word, f"nothing to stop at in {said!r}")
    for stream in (False, True):
        cut = tap.chat(QUESTION, stream=stream, max_tokens=SHORT, stop=[word], **FIXED)
        must(word not in cut.text, f"{word!r} is in {cut.text!r}")
        must(cut.finish == "stop" or said.split(word)[0] not in cut.text, f"it ended with {cut.finish}")
    status, _, told = tap.post(
        "/v1/messages",
        {"model": tap.model, "max_tokens": SHORT, "stop_sequences": [word], "temperature": 0,
         "messages": [{"role": "user", "content": QUESTION}]},
    )  # fmt: skip
    accepted(status, told.get("error"))
    must(told["stop_sequence"] in {word, None}, f"it stopped at {told['stop_sequence']!r}")
    must(told["stop_reason"] in {"stop_sequence", "max_tokens"}, f"it stopped for {told['stop_reason']}")


def seed(tap: Tap) -> None:
    first, again, other = (
        tap.chat(QUESTION, max_tokens=SHORT, temperature=1.0, seed=number).text for number in (7, 7, 8)
    )
    if first != again:
        raise Cannot("a seed does not repeat an answer")
    if first == other:
        raise Cannot("another seed gives the same answer")


def system(tap: Tap) -> None:
    """A system prompt reaches the model: it is counted."""
    counts = [_prompt_tokens(tap.chat(*messages, max_tokens=2)) for messages in ((QUESTION,), (SYSTEM, QUESTION))]
    must(counts[1] > counts[0] + 10, f"the prompt has {counts} tokens without and with it")


def turns(tap: Tap) -> None:
    earlier: list[dict[str, Any] | str] = [
        QUESTION,
        {"role": "assistant", "content": "Rain falls on the high pass all night."},
    ]
    counts = [_prompt_tokens(tap.chat(*earlier[:n], "And snow?", max_tokens=2)) for n in (0, 2)]
    must(counts[1] > counts[0] + 10, f"the prompt has {counts} tokens without and with earlier turns")


def _prompt_tokens(said: Said) -> int:
    if said.usage is None:
        raise Cannot("no usage is told")
    return int(said.usage["prompt_tokens"])


# The other formats ----------------------------------------------------------------------------------------------------


def messages(tap: Tap) -> None:
    """Anthropic's Messages, streamed."""
    body = {"model": tap.model, "max_tokens": SHORT, "stream": True}
    kinds, text = [], ""
    for status, _, frame in tap.frames("/v1/messages", body | {"messages": [{"role": "user", "content": QUESTION}]}):
        accepted(status, frame.get("error"))
        kinds.append(frame["type"])
        text += frame.get("delta", {}).get("text", "")
    must([kinds[0], *kinds[-2:]] == ["message_start", "message_delta", "message_stop"], f"its frames are {kinds}")
    must(text.strip(), "an answer without a word")


def responses(tap: Tap) -> None:
    """OpenAI's Responses, streamed."""
    body = {"model": tap.model, "input": QUESTION, "max_output_tokens": SHORT, "stream": True}
    text, last, numbers = "", dict[str, Any](), []
    for status, _, frame in tap.frames("/v1/responses", body):
        accepted(status, frame.get("error"))
        numbers.append(frame["sequence_number"])
        text += frame["delta"] if frame["type"] == "response.output_text.delta" else ""
        last = frame
    must(numbers == list(range(len(numbers))), f"its frames are numbered {numbers}")
    must(last["type"] in {"response.completed", "response.incomplete"}, f"its last frame is {last['type']}")
    must(text.strip(), "an answer without a word")


def ollama(tap: Tap) -> None:
    """Ollama's chat, streamed as lines."""
    body = {"model": tap.model, "messages": [{"role": "user", "content": QUESTION}], "options": {"num_predict": SHORT}}
    text, last = "", dict[str, Any]()
    for status, _, frame in tap.frames("/api/chat", body):
        accepted(status, {"code": "-", "message": frame.get("error")})
        must(not last.get("done"), "a line came after the last")
        text += frame["message"]["content"]
        last = frame
    must(last.get("done") and last.get("done_reason") in {"stop", "length"}, f"its last line is {last}")
    must(text.strip(), "an answer without a word")


def raw(tap: Tap) -> None:
    """A text is gone on with, without a chat template."""
    body = {"model": tap.model, "prompt": "Once upon a time", "max_tokens": 5}
    status, headers, found = tap.post("/v1/completions", body)
    accepted(status, found.get("error"))
    if "raw" in headers.get("x-standpipe-dropped", ""):
        raise Cannot("it has no path for it: the text is put as a question, and x-standpipe-dropped says so")
    must(found["choices"][0]["text"], "an answer without a word")
    if told := found.get("usage"):
        must(told["prompt_tokens"] <= 8, f"four words have {told['prompt_tokens']} tokens")


# Tools ----------------------------------------------------------------------------------------------------------------


def _calls(said: Said, *names: str) -> None:
    """Each is a whole call of one of these, with arguments that its schema allows."""
    must(len({call["id"] for call in said.calls}) == len(said.calls), "calls share an id")
    allowed = {"get_weather": {"city": {"Oslo", "Lima"}}, "get_time": {"zone": {"UTC", "CET"}}}
    for call in said.calls:
        must(call["name"] in names, f"{call['name']!r} was called")
        given = json.loads(call["arguments"])
        for key, values in allowed[call["name"]].items():
            must(isinstance(given, dict), f"arguments are {given}")
            must(set(given) == {key} and given[key] in values, f"arguments of {call['name']} are {given}")


def tools_auto(tap: Tap) -> str:
    said = tap.chat("What is the weather in Oslo?", tools=[WEATHER], max_tokens=64)
    must(said.text.strip() or said.calls, "an answer without a word")
    must(bool(said.calls) == (said.finish == "tool_calls"), f"{len(said.calls)} calls end with {said.finish}")
    must(not re.search(r"</?tool_call>|<\|", said.text), f"markup is left in {said.text!r}")
    for call in said.calls:
        must(call["name"] == "get_weather", f"{call['name']!r} was called")
        json.loads(call["arguments"])
    return "it called" if said.calls else "it answered in words"


def tool_named(tap: Tap) -> None:
    choice = {"type": "function", "function": {"name": "get_time"}}
    for stream in (False, True):
        said = tap.chat("Call it.", stream=stream, tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=ROOM, **FIXED)
        must(said.calls, f"no call: {said.text[:80]!r}")
        _calls(said, "get_time")


def tool_required(tap: Tap) -> None:
    for parallel in (None, False):
        rest = {} if parallel is None else {"parallel_tool_calls": parallel}
        said = tap.chat("Oslo?", stream=True, tools=[WEATHER, CLOCK], tool_choice="required", max_tokens=ROOM, **rest)
        must(said.calls, f"no call: {said.text[:80]!r}")
        must(parallel is None or len(said.calls) == 1, f"{len(said.calls)} calls where one was allowed")
        must(said.finish == "tool_calls" or said.finish == "length", f"a call ends with {said.finish}")
        if said.finish == "tool_calls":
            _calls(said, "get_weather", "get_time")


def tool_result(tap: Tap) -> None:
    """Two calls and their results are read; the answer is one."""
    second = {**CALL, "id": "call_2"}
    said = tap.chat(
        "Weather in Oslo, twice?",
        {"role": "assistant", "content": None, "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "still rain"},
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=SHORT,
    )
    must(said.text.strip(), "an answer without a word")
    must(not said.calls, "it called although it must not")


# Structured output ----------------------------------------------------------------------------------------------------


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def json_object(tap: Tap) -> str | None:
    said = tap.chat(
        "Give a JSON object with the key name.", response_format={"type": "json_object"}, max_tokens=ROOM, **FIXED
    )
    _is_json(said.text)
    if said.finish == "length":
        return "begun, and longer than asked for"
    must(isinstance(_json(said.text), dict), f"no object: {said.text[:80]!r}")
    return None


def _is_json(text: str) -> None:
    if text.lstrip()[:1] not in {"", "{"}:
        raise Cannot("it does not know of it: the text is the model's own, JSON or not")


def schema(tap: Tap) -> None:
    for stream in (False, True):
        said = tap.chat("A colour, wet or dry?", stream=stream, response_format=_form(SCHEMA), max_tokens=ROOM)
        _fits(said.text)
    body = {
        "model": tap.model, "input": "A colour?", "max_output_tokens": ROOM,
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}},
    }  # fmt: skip
    status, _, found = tap.post("/v1/responses", body)
    accepted(status, found.get("error"))
    _fits(found["output"][-1]["content"][0]["text"])


def _fits(text: str) -> None:
    found = _json(text)
    must(isinstance(found, dict), f"no object: {text[:80]!r}")
    right = set(found) == {"colour", "wet"} and found["colour"] in {"red", "green"} and isinstance(found["wet"], bool)
    must(right, f"it does not fit the schema: {text[:80]!r}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Wrong(f"no JSON: {text[:80]!r}") from None


def bad_schema(tap: Tap) -> None:
    """What is no schema is refused as one, by us or in words of ours."""
    for wrong in ({"type": "nonsense"}, {"type": "object", "properties": 7}, {"$ref": "#/nowhere"}):
        said = tap.try_chat("Hi", response_format=_form(wrong), max_tokens=SHORT)
        error = said.error or {}
        if said.status == 200:
            raise Cannot(f"it takes {json.dumps(wrong)} for a schema")
        must(said.status == 400 and error.get("code"), f"{wrong} gives {said.status}: {error}")
        must("schema" in error["message"].lower() or error["param"], f"{wrong} gives {error}")


def unicode(tap: Tap) -> None:
    """Characters of several tokens come whole, whatever frames they are cut into."""
    form = _form({"type": "string", "enum": [BIRD]})
    try:
        said = tap.chat(f"Say {BIRD}", stream=True, response_format=form, max_tokens=ROOM)
    except Cannot:
        raise Cannot("no schema forces it to write one") from None
    must(_json(said.text) == BIRD, f"it wrote {said.text!r}")


def logprobs(tap: Tap) -> None:
    for stream in (False, True):
        said = tap.chat(QUESTION, stream=stream, logprobs=True, top_logprobs=2, max_tokens=8, **FIXED)
        if not said.logprobs:
            raise Cannot("none are told")
        joined = b"".join(bytes(one["bytes"] or one["token"].encode()) for one in said.logprobs).decode(
            errors="replace"
        )
        must(said.text.strip() in joined, f"{joined!r} are the tokens of {said.text!r}")
        for one in said.logprobs:
            must(one["logprob"] <= 1e-4, f"a log-probability of {one['logprob']}")
            must(len(one["top_logprobs"]) <= 2, f"{len(one['top_logprobs'])} rivals")
            ranked = [rival["logprob"] for rival in one["top_logprobs"]]
            must(all(a >= b for a, b in pairwise(ranked)), f"rivals are {ranked}")


def reasoning(tap: Tap) -> None:
    said = tap.chat(QUESTION, stream=True, reasoning_effort="low", max_tokens=ROOM)
    must(said.text.strip(), "an answer without a word")
    must(not re.search(r"</?think>|<\|", said.text), f"markup is left in {said.text!r}")
    if not said.reasoning:
        raise Cannot("its model does not reason")


# Limits ---------------------------------------------------------------------------------------------------------------


def too_long(tap: Tap) -> str | None:
    """A prompt that fits nowhere is refused with both numbers."""
    said = tap.try_chat("rain " * 40_000, max_tokens=8)
    error = said.error or {}
    must(said.status == 400, f"it gives {said.status}: {error.get('message') or said.text[:80]}")
    must(error["code"] == "context_length_exceeded", f"the code is {error['code']}: {error['message']}")
    numbers = re.findall(r"\d{3,}", error["message"])
    return None if len(numbers) >= 2 else f"it tells {len(numbers)} of two numbers"


def unknown_model(tap: Tap) -> None:
    """The default model stands in, and the answer says which that is."""
    status, _, found = tap.post(
        "/v1/chat/completions",
        {"model": "no-such-model", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]},
    )
    accepted(status, found.get("error"))
    must(found["model"] == tap.model, f"the answer names {found['model']}")


# Embeddings -----------------------------------------------------------------------------------------------------------


def embeddings(tap: Tap) -> None:
    texts = ["rain", "snow on the pass", "🦜"]
    status, _, found = tap.post("/v1/embeddings", {"model": tap.model, "input": texts})
    accepted(status, found.get("error"))
    vectors = [one["embedding"] for one in found["data"]]
    must(len(vectors) == 3 and len(set(map(len, vectors))) == 1, "not one vector for each text")
    must(vectors[0] != vectors[1], "two texts have one vector")
    must(found["usage"]["prompt_tokens"] >= 3, f"usage is {found['usage']}")
    status, _, packed = tap.post("/v1/embeddings", {"model": tap.model, "input": texts, "encoding_format": "base64"})
    must(status == 200 and isinstance(packed["data"][0]["embedding"], str), "base64 gives no text")


# Leaving, and dying ---------------------------------------------------------------------------------------------------


LONG = "Go on for ever:" + " rain and snow and" * 12


def stream_for(tap: Tap, seconds: float) -> None:
    """Read a long stream for so long, then hang up. Raises Wrong where it ends by itself."""
    ends = monotonic() + seconds
    frames = tap.frames("/v1/chat/completions", _long(tap, 1500))
    for status, _, frame in frames:
        accepted(status, frame.get("error"))
        must("done" not in frame, "it ended before it could be left")
        if monotonic() > ends:
            break
    frames.close()


def dying(tap: Tap, kill: Callable[[], None], *, goes_on: bool) -> str | None:
    """The engine dies after some words of a stream. Raises Cannot where another should have gone on and did not."""
    said, killed, done = Said(), False, False
    with suppress(OSError, http.client.HTTPException):
        for status, _, frame in tap.frames("/v1/chat/completions", _long(tap, 60)):
            accepted(status, frame.get("error"))
            done = done or "done" in frame
            for choice in frame.get("choices", ()):
                said.text += choice["delta"].get("content") or ""
                said.finish = choice["finish_reason"] or said.finish
            if said.text.count(" ") >= 3 and not killed:
                killed = True
                kill()
    must(killed, f"it ended before it could be killed: {said.text!r}")
    must(done == (said.finish is not None), "half an answer looks whole")
    if goes_on and not done:
        raise Cannot("none goes on: the stream ends with an error, unfinished")
    return "it is started again, and goes on" if done and not goes_on else None


def _long(tap: Tap, tokens: int) -> dict[str, Any]:
    question = {"role": "user", "content": LONG}
    return {"model": tap.model, "stream": True, "max_tokens": tokens, "messages": [question], **FIXED}


CASES: dict[str, Callable[[Tap], str | None]] = {
    "whole answer": whole,
    "stream": stream,
    "the same whole and streamed": same,
    "usage": usage,
    "`max_tokens`": length,
    "stop strings": stop,
    "`seed`": seed,
    "system prompt": system,
    "several turns": turns,
    "Anthropic Messages": messages,
    "OpenAI Responses": responses,
    "Ollama chat": ollama,
    "raw completion": raw,
    "tools, if it likes": tools_auto,
    "a named tool": tool_named,
    "any tool; one at a time": tool_required,
    "results of tools": tool_result,
    "JSON object": json_object,
    "JSON Schema": schema,
    "a wrong schema is refused": bad_schema,
    "characters in pieces": unicode,
    "log-probabilities": logprobs,
    "reasoning": reasoning,
    "a prompt too long is refused": too_long,
    "unknown model": unknown_model,
    "embeddings": embeddings,
}
"""In the order of the table; what it takes a hand on the engine for follows in `run`."""
