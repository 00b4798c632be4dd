"""OpenAI's legacy Completions as we offer them: prompts as text, and for each one or more answers.

A prompt is raw: the model continues it word by word, without a chat template, wherever an engine has a path for that;
where it has none, the prompt is a chat of one user message, and the answer's header says so. `suffix`, lists of tokens
and the log-probabilities of a prompt are refused, and so is the choice of the best of several answers.

Without `max_tokens` there is no limit but the operator's: the 16 tokens that OpenAI once chose would be spent before a
reasoning model has said a word, where it is asked as in a chat. Reasoning has no place in this format; it is left out
of the text and counted in the usage.
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
    total,
)
from standpipe.dialects import bounds
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.framing import quote, sse_frame
from standpipe.dialects.openai import wire as chat
from standpipe.dialects.openai.answer import Ends
from standpipe.dialects.openai.faults import COMPLETIONS as WORDS
from standpipe.dialects.openai.faults import failure_body, renamed
from standpipe.dialects.openai.request import Defaults, includes_usage, others, sampling, token_limit
from standpipe.dialects.reading import Reader

_DONE = sse_frame(b"[DONE]")


class Request(chat.Sampled, kw_only=True):
    prompt: str | list[Any]
    logprobs: bounds.TopLogprobs | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class Echo(Struct, frozen=True):
    """What an answer has to do with its request: whether a stream tells its usage, whether the prompt is repeated."""

    usage: bool = False
    prompt: bool = False


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
        """`Parsed.echo` is an `Echo`."""
        request, dropped = self.reader.read(body)
        ask, *more = _asks(request)
        echo = Echo(includes_usage(request), bool(request.echo))
        return Parsed(ask=ask, stream=bool(request.stream), echo=echo, dropped=dropped, others=tuple(more))

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return self.encoders(parsed, meta)[0]

    def encoders(self, parsed: Parsed, meta: ResponseMeta) -> Sequence[Encoder]:
        prompts = _repeated(parsed)
        ends = Ends(len(prompts))
        return [
            _Chunks(meta, include_usage=parsed.echo.usage, prompt=prompt, index=index, ends=ends)
            for index, prompt in enumerate(prompts)
        ]

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        return self.answers(parsed, meta, (answer,))

    def answers(self, parsed: Parsed, meta: ResponseMeta, answers: Sequence[Answer]) -> bytes:
        """A `text_completion` with every field that OpenAI's schema requires."""
        choices = tuple(
            _Choice(
                prompt + answer.text + answer.refusal,
                index,
                _logprobs(answer.logprobs, 0) if answer.logprobs else None,
                _reason(answer.reason),
            )
            for index, (prompt, answer) in enumerate(zip(_repeated(parsed), answers, strict=True))
        )
        usage = total([answer.usage for answer in answers])
        return msgspec.json.encode(_completion(meta, choices, UNSET if usage is None else chat.usage(usage)))

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(WORDS, failure), request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:  # noqa: ARG002 - a status tells it
        return b""


LEGACY = OpenAICompletions()
"""POST /v1/completions."""


def _repeated(parsed: Parsed) -> list[str]:
    """What stands before the text of each choice."""
    return [ask.messages[0].text if parsed.echo.prompt else "" for ask in (parsed.ask, *parsed.others)]


def _asks(request: Request) -> Iterator[Ask]:
    """The texts to be continued, each as a chat of one message, and as often as it is. Raises InvalidAsk or
    Unsupported."""
    if request.echo and request.logprobs is not None:
        raise Unsupported("`echo` and `logprobs` do not go together: prompts have no log-probabilities.", param="echo")
    if request.suffix:
        raise Unsupported("`suffix` is not supported: text cannot be inserted before a suffix.", param="suffix")
    if request.best_of not in {None, request.n or 1}:
        raise Unsupported("`best_of` must be as many as `n`: every answer is given, and none chosen.", param="best_of")
    prompts = _prompts(request.prompt)
    if len(prompts) * (request.n or 1) > bounds.CHOICES:
        message = f"`prompt` and `n` ask for more than {bounds.CHOICES} answers."
        raise InvalidAsk(message, param="prompt" if len(prompts) > bounds.CHOICES else "n")
    for prompt in prompts:
        ask = _ask(request, prompt)
        yield from (ask, *others(ask, request.n))


def _ask(request: Request, prompt: str) -> Ask:
    return Ask(
        messages=(Message(Role.USER, (Text(prompt),)),),
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


def _prompts(sent: str | list[Any]) -> list[str]:
    if isinstance(sent, str):
        return [sent]
    if any(isinstance(part, int | list) for part in sent):
        raise Unsupported(
            "`prompt` must be text: token ids are not supported, since they differ between models.", param="prompt"
        )
    if not sent or not all(isinstance(part, str) for part in sent):
        raise InvalidAsk("`prompt` must be a string, or a list of strings.", param="prompt")
    return sent


class _Chunks:
    """The Encoder of one choice of a reply, which may be the only one. It begins with the prompt, where that is not
    empty."""

    def __init__(self, meta: ResponseMeta, *, include_usage: bool, prompt: str, index: int, ends: Ends) -> None:
        self._meta = meta
        self._prompt = prompt
        self._index = index
        self._ends = ends
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
                    if not self._ends.come(event.usage):
                        continue
                    if self._include_usage and (usage := self._ends.usage) is not None:
                        yield b'%b[],"usage":%b}\n\n' % (self._head, quote(chat.usage(usage)))
                    yield _DONE
                case Failed(failure):
                    yield sse_frame(failure_body(renamed(WORDS, failure), self._meta.id))
                case Started():
                    if self._prompt:
                        yield self._chunk(self._prompt)
                case ReasoningDelta() | ToolCallDelta():
                    pass

    def _chunk(self, text: str, logprobs: _Logprobs | None = None, reason: str | None = None) -> bytes:
        told = (quote(text), self._index, quote(logprobs), quote(reason))
        return self._text + b'%b,"index":%d,"logprobs":%b,"finish_reason":%b}]' % told + self._tail

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
