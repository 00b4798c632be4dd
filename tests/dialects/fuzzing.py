"""What must hold for any bytes that an engine may stream or a client may ask with, in any pieces.

    python -m tests.dialects.fuzzing --seconds 60

Of the framings: pieces make no difference, they give what a plain reading of the format gives, they keep no more than
their limit and raise FrameTooLarge exactly beyond it. Of the decoders: pieces make no difference, the order of events
is legal, nothing but a Failure is ever raised, and there is no Finished without the engine's word for it or after an
error. Of Harmony: no control token in any field, no failure, and pieces make no difference. Of asks: a body is an ask
or a client's fault.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from msgspec.structs import astuple

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.chat.errors import Failure
from standpipe.chat.events import (
    Delta,
    Event,
    EventOrder,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from standpipe.dialects import framing
from standpipe.dialects.anthropic import request as anthropic
from standpipe.dialects.framing import FrameTooLarge, NdjsonFrames, SseFrames
from standpipe.dialects.harmony.filter import HarmonyFilter
from standpipe.dialects.harmony.markup import find_marker
from standpipe.dialects.harmony.parser import HarmonyParser
from standpipe.dialects.ollama import request as ollama
from standpipe.dialects.ollama.from_engine import Decoder as OllamaDecoder
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai.faults import failure_in_stream
from standpipe.dialects.openai.from_engine import Decoder as OpenAIDecoder
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tests.fuzzing import Target, cut, load, main
from tests.golden import FOLDER
from tests.gptoss import corpus as gptoss

HERE = Path(__file__).parent / "corpus"
LIMIT = 512
"""Bytes of a frame, while framings are tried: the real limit is more than is worth trying."""


# Framings.


def check_sse(data: bytes, cuts: list[int]) -> None:
    frames: list[bytes] = []
    least = most = low = high = 0
    kept: list[bytes] = []
    *lines, rest = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", data)
    if rest:
        lines.append(rest)
    for place, ended in enumerate(lines):
        line = ended.rstrip(b"\r\n")
        low, high = low + len(line), high + len(ended)
        least, most = max(least, low), max(most, high)
        text = line.removeprefix(b"\xef\xbb\xbf") if place == 0 else line
        if text == b"data" or text.startswith(b"data:"):
            kept.append(text[5:].removeprefix(b" "))
        elif not text:
            frames += [b"\n".join(kept)] if kept else []
            kept, low, high = [], 0, 0
    frames += [last] if (last := b"\n".join(kept)) else []
    framed(SseFrames, data, cuts, frames, least=least, most=most)


def check_ndjson(data: bytes, cuts: list[int]) -> None:
    ended = data.split(b"\n")
    largest = max([*(len(line) + 1 for line in ended[:-1]), len(ended[-1]) + 1])
    frames = [line for line in (line.removesuffix(b"\r") for line in ended) if line]
    framed(NdjsonFrames, data, cuts, frames, least=largest, most=largest)


def framed(
    frames_of: type[SseFrames | NdjsonFrames],
    data: bytes,
    cuts: list[int],
    expected: list[bytes],
    *,
    least: int,
    most: int,
) -> None:
    """Hold a framing against the expected frames. The largest has from `least` to `most` bytes, by what is counted."""
    for pieces in ([data], cut(data, cuts)):
        frames, found, too_large = frames_of(), list[bytes](), False
        with patch.object(framing, "LIMIT", LIMIT):
            try:
                for piece in pieces:
                    found += frames.feed(piece)
                    assert sum(map(len, [*frames._line, *getattr(frames, "_data", ())])) <= LIMIT
                found += frames.end()
            except FrameTooLarge:
                too_large = True
        if too_large:
            assert most > LIMIT, "no frame is too large"
            assert expected[: len(found)] == found
        else:
            assert least <= LIMIT, "a frame is too large"
            assert expected == found


# Decoders.


class Decoder(Protocol):
    done: bool

    def feed(self, read: bytes) -> list[Event]: ...

    def end(self) -> list[Event]: ...


def check_openai(data: bytes, cuts: list[int]) -> None:
    whole = failed = False
    heard = [data.removeprefix(b"\xef\xbb\xbf")] if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else _sse(data)
    for frame in map(_json, heard):
        if not isinstance(frame, dict):
            continue
        failed |= _says_error(frame)
        failed |= frame.get("object") == "error" and frame.get("choices") is None
        whole = any(choice.get("finish_reason") for choice in _list(frame.get("choices")) if isinstance(choice, dict))
        if whole or failed:
            break  # what comes later changes nothing
    decoded(OpenAIDecoder, data, cuts, may_finish=whole and not failed)


def check_ollama(data: bytes, cuts: list[int]) -> None:
    failed = whole = False
    for line in data.split(b"\n"):
        heard = _json(line)
        if isinstance(heard, dict):
            failed |= _says_error(heard)
            whole = str(heard.get("done")).lower() in {"true", "1"}
            if whole:
                break
    decoded(lambda: OllamaDecoder("m", failure_in_stream), data, cuts, may_finish=whole and not failed)


def decoded(decoder: Callable[[], Decoder], data: bytes, cuts: list[int], *, may_finish: bool) -> None:
    """Hold a decoder against the legal order, against itself in other pieces, and against what the engine said."""
    together, failure = heard(decoder(), [data])
    apart, failure_apart = heard(decoder(), cut(data, cuts))
    assert repr(failure) == repr(failure_apart), "the pieces make a difference"
    # What came in the same read as a failure may be left out, and a model may be named in a later frame of a read.
    named = [*together[:1], *apart[1:]]
    assert together == (named[: len(together)] if failure else named), "the pieces make a difference"
    finished = any(isinstance(event, Finished) for event in apart)
    assert finished is not bool(failure)
    assert not finished or may_finish, "finished without the engine's word, or in spite of an error"
    if finished and (usage := apart[-1].usage):  # type: ignore[union-attr]  # it is Finished
        assert all(0 <= count < 1 << 40 for count in astuple(usage) if count is not None)
    for events in (together, apart):
        order = EventOrder()
        for event in events:
            order.advance(event)


def heard(decoder: Decoder, pieces: Iterable[bytes]) -> tuple[list[Event], Failure | None]:
    """As an engine uses a decoder: until it is done, and to the end of the body if it is not."""
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
            if decoder.done:
                break
        else:
            events += decoder.end()
    except Failure as failure:
        return events, failure
    return events, None


def _sse(data: bytes) -> list[bytes]:
    """Frames, by the framing that is held against the format elsewhere."""
    frames = SseFrames()
    return [*frames.feed(data), *frames.end()]


def _json(data: bytes) -> Any:
    try:
        return json.loads(data.decode(errors="replace"), strict=False)  # what is not looked at need not be UTF-8
    except (ValueError, RecursionError):
        return None


def _says_error(frame: dict[str, Any]) -> bool:
    error = frame.get("error")
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# Harmony.

TOOLS = (gptoss.tool("get_weather", ["location"]), gptoss.tool("bash", ["command"]), gptoss.tool("now"))
ASK = Ask((Message(Role.USER, (Text("hi"),)),), tools=TOOLS)
REASONS = (FinishReason.STOP, FinishReason.LENGTH, None)


def check_harmony(data: bytes, cuts: list[int]) -> None:
    text = data.decode(errors="replace")
    pieces, variant = cut(text, cuts), sum(cuts)
    meanings = [written(variant, text_pieces) for text_pieces in ([text], pieces)]
    assert meanings[0] == meanings[1], "the pieces make a difference"
    # Of an engine that reads Harmony itself and lets some through, as reasoning at first or as the answer.
    leaking = HarmonyFilter(ASK, "t")
    reasoning = variant % (len(pieces) + 1)
    said: list[Event] = [ReasoningDelta(piece) for piece in pieces[:reasoning]]
    said += [TextDelta(piece) for piece in pieces[reasoning:]]
    out = [event for one in [*said, Finished(FinishReason.STOP)] for event in leaking.take([one])]
    unmarked(out, () if leaking.turn is None else leaking.turn.undeclared)


def written(variant: int, pieces: Sequence[str]) -> gptoss.Meaning:
    """What a turn in these pieces means."""
    parser = HarmonyParser(TOOLS, "t", forced=bool(variant & 1), parallel=bool(variant & 2))
    events: list[Delta] = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.finish(REASONS[variant % len(REASONS)])
    assert parser.turn is not None
    whole = [*events, Finished(parser.turn.reason)]
    unmarked(whole, parser.turn.undeclared)
    return gptoss.meaning(whole)


def unmarked(events: Sequence[Event], undeclared: Iterable[str]) -> None:
    """No control token in anything that a client or a log gets to see, however it joins what it gets."""
    said = gptoss.meaning(events)
    names = [
        name for event in events if isinstance(event, ToolCallDelta) for name in (event.id or "", event.name or "")
    ]
    calls = [call.arguments for call in said.tool_calls]
    for field in (said.reasoning, said.content, *calls, *names, *undeclared):
        assert find_marker(field) is None, f"a control token in {field!r}"


# Asks.

DIALECTS = (
    openai_chat.API, openai_chat.COMPLETIONS, openai_completions.LEGACY, OpenAIResponses(), OpenAIResponses(keeps=True),
    anthropic.MESSAGES, ollama.CHAT, ollama.GENERATE,
)  # fmt: skip


def check_ask(data: bytes, _cuts: list[int]) -> None:
    for dialect in DIALECTS:
        fault = None
        try:
            assert dialect.parse(data).ask.messages or dialect in {ollama.CHAT, ollama.GENERATE}
        except Failure as failure:
            fault = failure
        if fault is not None:
            assert 400 <= fault.status < 500
            assert json.loads(dialect.failure(fault, "r"))


SSE_WORDS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: ", b"data:", b"data", b":", b": ping\n\n", b"event: error\n",
    b"\xef\xbb\xbf", b"data: [DONE]\n\n", b'data: {"error":{"message":"x"}}\n\n', b'"error":', b'"object":"error",',
    b"x" * 300, b"data:\n" * 90, b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
    b'"finish_reason":"stop"', b'"index":1,', b'"usage":{"prompt_tokens":-1},', b"null", b"{}", b"[]", b"{", b"}", b'"',
    b"\\", b"\\ud800", b"1e999", b"-1", b"9" * 30, b"0", b"true", b"\xff", b"\0", b"[" * 200,
)  # fmt: skip
LINE_WORDS = (
    b"\n", b"\r\n", b"\n\n", b"\r", b'{"error":"x"}\n', b'"error":', b'{"done":true}\n', b'"done":true,',
    b'"done":"yes",', b'{"message":{"content":"x"}}\n', b"x" * 300, b"null", b"{}", b"[]", b"{", b"}", b'"', b"\\",
    b"\\ud800", b"1e999", b"-1", b"9" * 30, b"9" * 400, b"0", b"true", b"\xff", b"\0", b"[" * 200,
)  # fmt: skip
HARMONY_WORDS = (
    b"<|start|>", b"<|channel|>", b"<|constrain|>", b"<|message|>", b"<|end|>", b"<|return|>", b"<|call|>",
    b"<|endoftext|>", b"<|reserved_12|>", b"<|refusal|>", b"<|", b"<", b"|>", b"<|sta", b"rt|>", b"<|reserved_",
    b"assistant", b"analysis", b"commentary", b"final", b"user", b" to=functions.bash", b" to=bash", b" to=",
    b" to=assistant", b" to=python", b" json", b"{", b"}", b'"', b"\\", b'{"command":"<|end|>"}', b'{"location":"x"}',
    b"\n", b" ", b"assistantfinal", b"assistantcommentary to=functions.bash", b"\xff", "é🙂".encode(),
)  # fmt: skip
ASK_WORDS = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b"9" * 30, b"{}",
    b"[]", b'""', b'"x"', b"\\ud800", b"\\u0000", b"\xff", b"\0", b'"content":null,', b'"role":"tool",',
    b'"role":"assistant",', b'"type":"image_url",', b'"n":2,', b'"stream":1,', b'"tools":[{}],', b"[" * 20,
    b'{"a":' * 20, b" ", b"\n", b"NaN",
)  # fmt: skip

SSE = (*load(HERE, ".sse"), *load(FOLDER / "openai_upstream", ".sse"), *load(FOLDER / "anthropic", ".sse"))
LINES = (*load(HERE, ".ndjson"), *load(FOLDER / "ollama_upstream", ".ndjson"))
HARMONY = (*load(HERE, ".harmony"), *(damage.raw.encode() for damage in gptoss.load()))

TARGETS = (
    Target("SSE framings", SSE, SSE_WORDS, check_sse),
    Target("NDJSON framings", LINES, LINE_WORDS, check_ndjson),
    Target("OpenAI streams", SSE, SSE_WORDS, check_openai),
    Target("Ollama streams", LINES, LINE_WORDS, check_ollama),
    Target("Harmony turns", HARMONY, HARMONY_WORDS, check_harmony),
    Target("asks", load(HERE, ".json"), ASK_WORDS, check_ask),
)

if __name__ == "__main__":
    sys.exit(main(*TARGETS))
