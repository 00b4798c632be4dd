"""What engines were reported to send, and what they meant by it: a table.

Each row is a kind, rewritten small, with the public reports in which it was seen (`project #number`). Whoever meets a
new one adds a row.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from standpipe.chat.ask import Sampling
from standpipe.chat.errors import ContextTooLong, EngineBroke, EngineFailed, Failure
from standpipe.chat.events import FinishReason, TokenLogprob, Usage

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
CALLS, FILTER = FinishReason.TOOL_CALLS, FinishReason.CONTENT_FILTER


class Meant(NamedTuple):
    """What an answer came to."""

    text: str = "Hi"
    reason: FinishReason = STOP
    calls: tuple[tuple[str, str], ...] = ()
    reasoning: str = ""
    usage: Usage | None = None
    stop: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    odd: frozenset[str] = frozenset()
    """What was left out."""


class Case(NamedTuple):
    """One kind. `sent` are the bytes of the body, whatever their label."""

    reported: str
    sent: bytes
    meant: Meant | type[Failure] = Meant()
    sampling: Sampling = Sampling()


def sse(*frames: Any, done: bool = True) -> bytes:
    written = [frame if isinstance(frame, bytes) else b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames]
    return b"".join([*written, *([b"data: [DONE]\n\n"] if done else [])])


def chunk(delta: Any = None, finish_reason: Any = None, *, choice: dict[str, Any] | None = None, **fields: Any) -> Any:
    written = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason, **(choice or {})}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [written], **fields}


def said(text: Any = "Hi", **fields: Any) -> Any:
    return chunk({"content": text}, **fields)


def end(reason: Any = "stop", **fields: Any) -> Any:
    return chunk({}, reason, **fields)


def called(arguments: Any, **fields: Any) -> Any:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return chunk({"tool_calls": [call | fields]})


def lines(*said: Any) -> bytes:
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in said)


def line(content: Any = "Hi", **fields: Any) -> Any:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": False, **fields}


def last(reason: Any = "stop", **fields: Any) -> Any:
    return {
        "model": "m",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": reason,
        **fields,
    }


def odd(*names: str, **meant: Any) -> Meant:
    return Meant(odd=frozenset(names), **meant)


TEXT = {"type": "text", "text": "Hi"}
WHOLE = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
NO_ARGUMENTS: tuple[Any, ...] = (None, "", "null", {}, "{}")
CALLED = Meant("", CALLS, (("f", "{}"),))
COUNTED = Meant(usage=Usage(3, 1))
COUNTS = {"prompt_tokens": 3, "completion_tokens": 1}
HI = TokenLogprob("Hi", -0.5)
RIVALS = [{"token": "Hi", "logprob": -0.5}, {"token": "Yo", "logprob": -1.0}, {"token": "Oh", "logprob": -2.0}]
TOLD = {"logprobs": {"content": [{"token": "Hi", "logprob": -0.5, "top_logprobs": RIVALS}]}}
BOTH = (TokenLogprob("Hi", -0.5), TokenLogprob("Yo", -1.0))

SIDE_FIELDS = [
    Case("LiteLLM #28001, easyllm #40, siyuan #14787: counts as floats",
         sse(said(), end(usage={"prompt_tokens": 3.0, "completion_tokens": 1.0})), COUNTED),
    Case("counts as text", sse(said(), end(usage={"prompt_tokens": "3", "completion_tokens": "1"})), COUNTED),
    Case("counts that are none", sse(said(), end(usage={"prompt_tokens": "many", "completion_tokens": 1})),
         odd("usage.prompt_tokens", usage=Usage(0, 1))),
    Case("details of usage as a list",
         sse(said(), end(usage=COUNTS | {"prompt_tokens_details": [], "completion_tokens_details": 5})), COUNTED),
    Case("usage as a list", sse(said(), end(usage=[3, 1])), odd("usage")),
    Case("odd usage in every frame", sse(said(usage="none"), end(usage=COUNTS)), odd("usage", usage=Usage(3, 1))),
    Case("timings of another shape", sse(said(), end(timings={"prompt_ms": "fast"})), odd("timings")),
    Case("the model as a number", sse(said(model=7), end())),
    Case("the model as an object", sse(said(model={"id": "m"}), end()), odd("model")),
    Case("Gemini and Go gateways: index as text", sse(said(choice={"index": "0"}), end(choice={"index": "0"}))),
    Case("index null", sse(said(choice={"index": None}), end(choice={"index": None}))),
    Case("a call's id as a number", sse(called("{}", id=7), end("tool_calls")), CALLED),
    Case("a call's index as text", sse(called("{}", index="0"), end("tool_calls")), CALLED),
    Case("calls as one object", sse(chunk({"tool_calls": {"function": {"name": "f"}}}), end("tool_calls")), CALLED),
    Case("PHP: an empty map as a list", sse(said(), chunk([]), end(choice={"delta": []}))),
    Case("log-probabilities of another shape",
         sse(said(choice={"logprobs": {"content": [5]}}), end()), odd("logprobs"), Sampling(logprobs=True)),
    Case("a usage frame after the end", sse(said(), end(), {"choices": [], "usage": {"prompt_tokens": []}}),
         odd("usage.prompt_tokens")),
    Case("agent-framework #6978, LiteLLM #16272, n8n #37352 (Mistral): thinking and text in parts",
         sse(said([{"type": "thinking", "thinking": [TEXT | {"text": "Hm."}]}, TEXT]), end()), Meant(reasoning="Hm.")),
    Case("parts of other kinds are passed over",
         sse(said([{"type": "reference", "reference_ids": [1]}, TEXT]), end())),
    Case("content as a number", sse(said(42), end()), Meant("42")),
    Case("content that is none at all", sse(said(True), end()), EngineFailed),
    Case("`error` without content in good frames",
         sse(said(error=None), said("", error=""), said("", error={"message": "", "code": None}), end(error={}))),
]  # fmt: skip

ENDS = [
    Case("wave-agent #1326, cadis #2329, python-sdk #1670, openai-python #2721: an empty `data:` keeps alive",
         sse(b"data:\n\n", b"data: \n\n", said(), b"data:\n\n", end(), b"data:\n\n")),
    Case("white space and comments keep alive", sse(b" \n\n: ping\n\n", said(), b"data:   \n\n", b": x\n\n", end())),
    Case("`data: null` keeps alive", sse(b"data: null\n\n", said(), end())),
    Case("no [DONE] (TGI, some Bedrock gateways)", sse(said(), end(), done=False)),
    Case("a missing blank line at the end", sse(said(), end(), done=False)[:-1]),
    Case("no line end at all at the end", sse(said(), end(), done=False)[:-2]),
    Case("a frame that cannot be read after the end", sse(said(), end(), b"data: {oops\n\n"), odd("frame")),
    Case("an error after the end", sse(said(), end(), {"error": {"message": "gone"}})),
    Case("half a frame after the end", sse(said(), end(), done=False) + b'data: {"usa', odd("frame")),
    Case("white space behind [DONE]", sse(said(), end(), b"data: [DONE] \n\n")),
    Case("vllm #27572, vllm-mlx #672: [DONE] without any reason", sse(said()), EngineBroke),
    Case("a frame that cannot be read before the end", sse(said(), b"data: {oops\n\n", end()), EngineFailed),
    Case("tinyagents #56: a whole completion where a stream was asked for",
         json.dumps(WHOLE | {"usage": COUNTS}).encode(), COUNTED),
    Case("the same, pretty-printed, with white space around and a byte order mark",
         b"\xef\xbb\xbf\n " + json.dumps(WHOLE, indent=1).encode() + b"\n"),
    Case("half a whole completion", json.dumps(WHOLE).encode()[:-1], EngineFailed),
    Case("a page in the place of an answer", b"<html>Sign in</html>", EngineBroke),
    Case("OmniRoute #8210: status 200, then an error before any text",
         sse({"error": {"message": "maximum context length is 4096 tokens", "type": "BadRequest"}}), ContextTooLong),
]  # fmt: skip

REASONS = [
    *(Case(f"{who}: finish_reason {told!r}", sse(said(), end(told)), Meant(reason=reason)) for who, told, reason in [
        ("laravel/ai #955 (Mistral)", "model_length", LENGTH),
        ("Anthropic, Zhipu", "model_context_window_exceeded", LENGTH),
        ("Gemini", "MAX_TOKENS", LENGTH), ("Gemini", "SAFETY", FILTER), ("Gemini", "STOP", STOP),
        ("Gemini", "FINISH_REASON_STOP", STOP), ("Gemini", "PROHIBITED_CONTENT", FILTER),
        ("Cohere", "COMPLETE", STOP), ("Cohere", "ERROR_TOXIC", FILTER), ("xAI", "REASON_MAX_LEN", LENGTH),
        ("LiteLLM #12481", "end_turn", STOP), ("TGI", "eos_token", STOP), ("Zhipu", "sensitive", FILTER),
        ("Bedrock", "guardrail_intervened", FILTER), ("Bedrock", "content-filtered", FILTER),
    ]),
    *(Case(f"{who}: finish_reason {told!r}", sse(said(), end(told)), EngineFailed) for who, told in [
        ("vLLM", "abort"), ("Mistral", "error"), ("DeepSeek", "insufficient_system_resource"),
        ("Gemini", "MALFORMED_FUNCTION_CALL"), ("watsonx", "time_limit"), ("Zhipu", "network_error"),
    ]),
    Case("DashScope: `null` as text until the end", sse(chunk({"content": "Hi"}, "null"), end())),
    Case("DashScope: `null` as text, and never another", sse(chunk({"content": "Hi"}, "null")), EngineBroke),
    Case("a reason that nobody knows, behind text", sse(said(), end("banana")), odd("finish_reason")),
    Case("a reason that nobody knows, and no text", sse(end("banana")), EngineFailed),
    Case("a reason of a strange type", sse(said(), end({"type": "stop"})), EngineBroke),
    Case("length, then a closing frame with stop", sse(said(), end("length"), end("stop")), Meant(reason=LENGTH)),
    Case("vllm #53255, kilocode #7756, mastra #12581, open-webui #23066: `tool_calls` without a call",
         sse(said(), end("tool_calls"))),
    Case("the same without a word", sse(end("tool_calls")), EngineFailed),
    Case("the same behind reasoning, in which a call may have leaked",
         sse(chunk({"reasoning": "Hm."}), end("tool_calls")), Meant("", reasoning="Hm.")),
    Case("LiteLLM #35663, #12862: a call ends with `stop`", sse(called("{}"), end("stop")), CALLED),
    Case("the old way to call a function",
         sse(*(chunk({"function_call": call}) for call in ({"name": "f", "arguments": '{"a":'}, {"arguments": "1}"})),
             end("function_call")), Meant("", CALLS, (("f", '{"a":1}'),))),
    Case("`message` in the place of `delta`",
         sse(*({"choices": [{"index": 0, "message": {"content": text}}]} for text in ("H", "i")), end())),
    Case("`text` in the place of `delta`", sse(*({"choices": [{"text": text}]} for text in ("H", "i")), end())),
    Case("a whole `message` behind the deltas that it repeats",
         sse(said(), WHOLE)),
]  # fmt: skip

CHARACTERS = [
    Case("elizaOS #30904, rakazo #416: an emoji in two escaped halves", sse(
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n', end()), Meant("a😀b")),
    Case("UTF-8 cut between its bytes", sse(
        b'data: {"choices":[{"delta":{"content":"a\xf0\x9f"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\x98\x80b"}}]}\n\n', end()), Meant("a😀b")),
    Case("half an emoji and no more",
         sse(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', end()), Meant("a�")),
    Case("half an emoji, then text", sse(
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', said("b"), end()), Meant("a�b")),
    Case("bytes that are no UTF-8", sse(b'data: {"choices":[{"delta":{"content":"a\xff"}}]}\n\n', end()), Meant("a�")),
    Case("halves in reasoning", sse(
        b'data: {"choices":[{"delta":{"reasoning_content":"\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_content":"\\ude00"}}]}\n\n', said(), end()), Meant(reasoning="😀")),
    Case("halves in a call's arguments", sse(
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f",'
        b'"arguments":"{\\"a\\":\\"\\ud83d"}}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\ude00\\"}"}}]}}]}\n\n',
        end("tool_calls")), Meant("", CALLS, (("f", '{"a":"😀"}'),))),
]  # fmt: skip

MADE_CALLS = [
    *(Case(f"llm #1521, aichat #1217: a call with arguments {arguments!r}",
           sse(called(arguments), end("tool_calls")), CALLED) for arguments in NO_ARGUMENTS),
    Case("a call without a word of its arguments, ended by stop",
         sse(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}), end()), CALLED),
    Case("`null` in the middle of arguments is one of their values",
         sse(called('{"a":'), *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
                                for piece in ("null", "}")), end("tool_calls")),
         Meant("", CALLS, (("f", '{"a":null}'),))),
    Case("a call that was cut off before its arguments stays as it is",
         sse(called(""), end("length")), Meant("", LENGTH, (("f", ""),))),
    Case("an empty call among the pieces", sse(said(), chunk({"tool_calls": [{}]}), end())),
    Case("Gemini, Ollama: two calls that both have index 0", sse(
        called('{"a":1}'), called('{"a":2}', id="call_2"), end("tool_calls")),
        Meant("", CALLS, (("f", '{"a":1}'), ("f", '{"a":2}')))),
]  # fmt: skip

LOGPROBS = [
    Case("none were asked for", sse(said(choice=TOLD), end())),
    Case("the chosen tokens and no rival", sse(said(choice=TOLD), end()), Meant(logprobs=(HI,)),
         Sampling(logprobs=True)),
    Case("llama.cpp: exactly as many rivals as were asked for", sse(said(choice=TOLD), end()),
         Meant(logprobs=(TokenLogprob("Hi", -0.5, None, BOTH),)), Sampling(logprobs=True, top_logprobs=2)),
]  # fmt: skip

WANTED = Sampling(stop=("END", "\n\n"), tell_stop=True)
STOPS = [
    Case("vLLM tells which stop string it was", sse(said(), end(choice={"stop_reason": "END"})), Meant(stop="END"),
         Sampling(stop=("END",))),
    Case("a `stop_reason` that is none of the client's", sse(said(), end(choice={"stop_reason": "end_turn"})), Meant(),
         Sampling(stop=("END",))),
    Case("an engine that does not tell is stopped from here", sse(said("Hi"), said("E"), said("ND more"), end()),
         Meant(stop="END"), WANTED),
    Case("what only looked like one is text", sse(said("Hi"), said("EN"), end()), Meant("HiEN"), WANTED),
    Case("llama.cpp counts in its timings, so that a stopped answer is counted",
         sse(said("Hi", timings={"prompt_n": 1, "cache_n": 2, "predicted_n": 1}), said("\n\n"), end()),
         Meant(stop="\n\n", usage=Usage(3, 1, cached_tokens=2)), WANTED),
]  # fmt: skip

OPENAI = [*SIDE_FIELDS, *ENDS, *REASONS, *CHARACTERS, *MADE_CALLS, *LOGPROBS, *STOPS]

OLLAMA_CALL = {"function": {"name": "f", "arguments": {}}}
OLLAMA = [
    Case("counts as floats", lines(line(), last(prompt_eval_count=3.0, eval_count=1.0)), COUNTED),
    Case("counts that are none", lines(line(), last(prompt_eval_count="many", eval_count=1)),
         odd("prompt_eval_count", usage=Usage(0, 1))),
    Case("the model as a number", lines(line(model=7), last())),
    Case("thinking and text in parts", lines(
        line([{"type": "thinking", "thinking": "Hm."}, TEXT]), last()), Meant(reasoning="Hm.")),
    Case("content that is none at all", lines(line(True), last()), EngineFailed),
    Case("blank lines keep alive", lines(b" \n", line(), b"\t\n", last(), b" \n")),
    Case("anything after the end", lines(line(), last(), b"oops\n", {"error": "gone"})),
    Case("a whole answer", lines(last() | {"message": {"content": "Hi"}})),
    Case("a last line without its end", lines(line(), last())[:-1]),
    Case("`response` in the place of `message`", lines({"response": "Hi", "done": False}, last())),
    Case("an empty error in a good line", lines(line(error=""), last(error=None))),
    Case("an error in mid-stream", lines(line(), {"error": "an error was encountered"}), EngineFailed),
    Case("it only loaded its model", lines(last("load") | {"message": {"content": ""}}), EngineFailed),
    Case("it only unloaded its model", lines(last("unload")), EngineFailed),
    Case("no reason at all, from an old Ollama", lines(line(), {"done": True})),
    Case("a reason that nobody knows, behind text", lines(line(), last("banana")), odd("done_reason")),
    Case("a reason that nobody knows, and no text", lines(last("banana")), EngineFailed),
    Case("length", lines(line(), last("length")), Meant(reason=LENGTH)),
    Case("an emoji in two escaped halves", lines(
        b'{"message":{"content":"a\\ud83d"},"done":false}\n', b'{"message":{"content":"\\ude00b"},"done":false}\n',
        last()), Meant("a😀b")),
    Case("bytes that are no UTF-8", lines(b'{"message":{"content":"a\xff"},"done":false}\n', last()), Meant("a�")),
    *(Case(f"a call with arguments {arguments!r}", lines(
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}, "done": False}, last()),
        CALLED) for arguments in NO_ARGUMENTS),
    Case("a call's id as a number", lines({"message": {"tool_calls": [OLLAMA_CALL | {"id": 7}]}}, last()), CALLED),
    Case("exactly as many rivals as were asked for", lines(
        line(logprobs=TOLD["logprobs"]["content"]), last()),
        Meant(logprobs=(TokenLogprob("Hi", -0.5, None, BOTH),)), Sampling(logprobs=True, top_logprobs=2)),
    Case("stopped from here", lines(line("Hi"), line("END more"), last()), Meant(stop="END"), WANTED),
]  # fmt: skip
