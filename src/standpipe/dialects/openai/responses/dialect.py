"""OpenAI's Responses as we offer them: function tools, reasoning in the open, text in and text out.

Reasoning comes as items with `reasoning_text` content, never summarised and never encrypted, and is taken back the
same way. Whoever keeps responses between asks builds the dialect with `keeps`, and hands each parsed ask through
`openai_responses_kept.joined`; without that nothing is kept, `store` is answered with false, and
`previous_response_id` is refused.
"""

from __future__ import annotations

from msgspec.json import Decoder

from standpipe.chat.errors import Failure, Unsupported
from standpipe.chat.events import Answer, Event, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.dialects.dialect import Encoder, Parsed, Stamp
from standpipe.dialects.openai.faults import RESPONSES, failure_body, renamed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.answer import Events
from standpipe.dialects.openai.responses.kept import Echo
from standpipe.dialects.openai.responses.request import ask, passed_over
from standpipe.dialects.reading import DROPPED, decode, fields, is_null, unknown

TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "access_programs",
        "background_options",
        "context_management",
        "image",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "user",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "conversation": "Conversations are not kept here: send what was said in `input`.",
    "moderation": "Nothing is moderated here.",
    "prompt": "Prompt templates are not kept here: send `instructions` and `input`.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class OpenAIResponses:
    """The dialect of POST /v1/responses."""

    name = "openai_responses"
    stream_type = "text/event-stream"

    def __init__(self, *, keeps: bool = False) -> None:
        """`keeps` promises that somebody keeps what clients want kept; who does not say wants it, as at OpenAI."""
        self._keeps = keeps

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is an `Echo`."""
        sent = fields(body)
        for name, message in REFUSED.items():
            if not is_null(sent.get(name)):
                raise Unsupported(message, param=name)
        request = decode(body, _REQUEST)
        if request.previous_response_id is not None and not self._keeps:
            raise Unsupported(
                "Responses are not kept here, so `previous_response_id` refers to none: send what was said in `input`.",
                param="previous_response_id",
            )
        asked, outline = ask(request)
        return Parsed(
            ask=asked,
            stream=bool(request.stream),
            echo=Echo(outline, keep=self._keeps and request.store is not False),
            dropped=(*unknown(sent, _KNOWN), *passed_over(request.tools or ()))[:DROPPED],
        )

    def encoder(self, parsed: Parsed, stamp: Stamp) -> Encoder:
        return Events(parsed, stamp)

    def answer(self, parsed: Parsed, stamp: Stamp, answer: Answer) -> bytes:
        """The response with which the stream of this answer would have ended."""
        events = Events(parsed, stamp)
        events.encode(_told(answer))
        return events.final

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(RESPONSES, failure), request_id)

    def __repr__(self) -> str:
        return f"<OpenAIResponses{' that keeps' if self._keeps else ''}>"


def _told(answer: Answer) -> list[Event]:
    return [
        Started(answer.model),
        ReasoningDelta(answer.reasoning),
        TextDelta(answer.text, answer.logprobs if answer.text else ()),
        TextDelta(answer.refusal, refusal=True),
        *(ToolCallDelta(place, call.arguments, call.id, call.name) for place, call in enumerate(answer.tool_calls)),
        Finished(answer.reason, answer.usage),
    ]
