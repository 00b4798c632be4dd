"""OpenAI's legacy Completions as we offer them: one prompt as text, one answer.

The prompt is raw: the model continues it word by word, without a chat template, wherever an engine has a path for that;
where it has none, the prompt is a chat of one user message, and the answer's header says so. `suffix`, `echo` and token
lists are refused, and so are several answers at once. Without `max_tokens` there is no limit but the operator's: the 16
tokens that OpenAI once chose would be spent before a reasoning model has said a word, where it is asked as in a chat.
Reasoning has no place in this format; it is left out of the text and counted in the usage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.chat.errors import ContextTooLong, Failure, InvalidAsk, Unsupported
from standpipe.chat.events import (
    Answer,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Waiting,
)
from standpipe.dialects import bounds
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.framing import quote, sse_frame
from standpipe.dialects.openai import wire as chat
from standpipe.dialects.openai.faults import COMPLETIONS as WORDS
from standpipe.dialects.openai.faults import failure_body, renamed
from standpipe.dialects.openai.request import Defaults, includes_usage, sampling, token_limit
from standpipe.dialects.reading import Reader

_DONE = sse_frame(b"[DONE]")


class Request(chat.Sampled, kw_only=True):
    prompt: str | list[Any]
    logprobs: bounds.TopLogprobs | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class _Logprobs(Struct, frozen=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class _Choice(Struct, frozen=True):
    text: str
    index: int
    logprobs: _Logprobs | None
    finish_reason: str | None


class _Completion(Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[_Choice, ...]
    usage: chat.Usage | UnsetType = UNSET


class OpenAICompletions:
    """The dialect of POST /v1/completions."""

    name = "openai_completions"
    stream_type = "text/event-stream"
    reader = Reader(Request, ignored={"stream_options.include_obfuscation", "user"})

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the stream shall tell its usage."""
        request, dropped = self.reader.read(body)
        return Parsed(ask=_ask(request), stream=bool(request.stream), echo=includes_usage(request), dropped=dropped)

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return _Chunks(meta, include_usage=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:  # noqa: ARG002 -- the protocol's
        """A `text_completion` with every field that OpenAI's schema requires."""
        logprobs = _logprobs(answer.logprobs, 0) if answer.logprobs else None
        choice = _Choice(answer.text + answer.refusal, 0, logprobs, _reason(answer.reason))
        usage = UNSET if answer.usage is None else chat.usage(answer.usage)
        return msgspec.json.encode(_completion(meta, (choice,), usage))

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(WORDS, failure), request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:  # noqa: ARG002 - a status tells it
        return b""


LEGACY = OpenAICompletions()
"""POST /v1/completions."""


def _ask(request: Request) -> Ask:
    """The text to be continued, as a chat of one message. Raises InvalidAsk or Unsupported."""
    if request.echo:
        raise Unsupported("`echo` must be false: the prompt is not repeated.", param="echo")
    if request.suffix:
        raise Unsupported("`suffix` is not supported: text cannot be inserted before a suffix.", param="suffix")
    if request.best_of not in {None, 1}:
        raise Unsupported("`best_of` must be 1: each request gets one answer.", param="best_of")
    return Ask(
        messages=(Message(Role.USER, (Text(_prompt(request.prompt)),)),),
        model=request.model or None,
        sampling=sampling(
            request,
            Defaults(),
            max_tokens=token_limit(request.max_tokens, "max_tokens"),
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs,
        ),
        raw=True,
    )


def _prompt(sent: str | list[Any]) -> str:
    if isinstance(sent, str):
        return sent
    if any(isinstance(part, int | list) for part in sent):
        raise Unsupported(
            "`prompt` must be text: token ids are not supported, since they differ between models.", param="prompt"
        )
    if len(sent) != 1 or not isinstance(sent[0], str):
        raise InvalidAsk("`prompt` must be a string, or a list of one string.", param="prompt")
    return sent[0]


class _Chunks:
    """The Encoder of one reply."""

    def __init__(self, meta: ResponseMeta, *, include_usage: bool) -> None:
        self._meta = meta
        self._include_usage = include_usage
        self._offset = 0  # characters written
        head = quote(_completion(meta, (), UNSET)).removesuffix(b"[]}")
        self._head = b"data: %b" % head
        self._text = self._head + b'[{"text":'
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def encode(self, events: Sequence[Event]) -> bytes:
        """A frame for each event that has a place in this format, and what closes the stream."""
        return b"".join(self._frames(events))

    def _frames(self, events: Sequence[Event]) -> Iterator[bytes]:
        for event in events:
            match event:
                case TextDelta(text, logprobs):
                    yield self._chunk(text, _logprobs(logprobs, self._offset) if logprobs else None)
                    self._offset += len(text)
                case Waiting():
                    yield self._waiting(event)
                case Finished():
                    yield self._chunk("", reason=_reason(event.reason))
                    if self._include_usage and event.usage is not None:
                        yield b'%b[],"usage":%b}\n\n' % (self._head, quote(chat.usage(event.usage)))
                    yield _DONE
                case Failed(failure):
                    yield sse_frame(failure_body(renamed(WORDS, failure), self._meta.id))
                case Started() | ReasoningDelta() | ToolCallDelta():
                    pass

    def _chunk(self, text: str, logprobs: _Logprobs | None = None, reason: str | None = None) -> bytes:
        told = (quote(text), quote(logprobs), quote(reason))
        return self._text + b'%b,"index":0,"logprobs":%b,"finish_reason":%b}]' % told + self._tail

    def _waiting(self, event: Waiting) -> bytes:
        """A chunk that every client takes for an empty piece of text; whoever knows looks at its `queue`."""
        chunk = self._chunk("")
        if event.queue is None:
            return chunk
        return b'%b,"queue":%b%b' % (chunk.removesuffix(self._tail), quote(event.queue), self._tail)


def _completion(meta: ResponseMeta, choices: tuple[_Choice, ...], usage: chat.Usage | UnsetType) -> _Completion:
    return _Completion(f"cmpl-{meta.id}", "text_completion", meta.created, meta.model, choices, usage)


def _reason(reason: FinishReason) -> str:
    """There are no tools in this format: a model that stopped for one has stopped."""
    return FinishReason.STOP if reason is FinishReason.TOOL_CALLS else reason


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> _Logprobs:
    """The legacy spelling, whose offsets count characters from the beginning of the text."""
    found = _Logprobs([], [], [], [])
    for token in tokens:
        found.tokens.append(token.token)
        found.token_logprobs.append(token.logprob)
        found.top_logprobs.append({rival.token: rival.logprob for rival in token.top})
        found.text_offset.append(offset)
        offset += len(token.token)
    return found
