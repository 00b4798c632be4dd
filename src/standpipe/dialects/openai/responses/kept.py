"""What is kept of a response, and how what was kept joins the next ask.

Values only; where they live, for how long and whose they are is not known here. A turn holds everything that was said
up to its end, so that the next ask needs no other. Instructions are no part of it: they hold for one response. An item
of an answer is found by its id, which has the mark of its response and its place in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, msgpack
from msgspec.structs import replace

from standpipe.chat.ask import Message, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult
from standpipe.chat.errors import InvalidAsk, PreviousNotFound
from standpipe.dialects.bounds import MESSAGES
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.tools import CalledAs

_ID = re.compile(r"resp_[A-Za-z0-9]{1,64}")
_ITEM = re.compile(r"[a-z]{2,8}_([A-Za-z0-9]{1,64})_(\d{1,4})")


class Answered(Struct, frozen=True):
    """A whole answer: the response as it was given (JSON), and what each of its items says to a model."""

    response: bytes
    items: tuple[tuple[Part, ...], ...]


Keeper = Callable[[Answered], None]
"""Takes an answer as soon as it is whole, and nothing of one that is not."""


class Turn(Struct, frozen=True):
    """One answered ask: the response as it was given (JSON), all messages that led to it, and the one it is."""

    response: bytes
    asked: tuple[Message, ...]
    answer: tuple[Message, ...] = ()

    @classmethod
    def of(cls, asked: tuple[Message, ...], answered: Answered) -> Turn:
        """The turn of this answer; an answer without a word is no message."""
        spoken = tuple(part for item in answered.items for part in item)
        return cls(answered.response, asked, (Message(Role.ASSISTANT, spoken),) if spoken else ())


class Echo(Struct, frozen=True):
    """What a response repeats of its request, whether the client wants it kept, and, if it may be, who keeps it.

    `called_as` is, for functions that stand for other tools, what a call of each is to the client. `mark` stands in the
    ids of items; the request's id where it is empty.
    """

    outline: wire.Response
    keep: bool = False
    keeper: Keeper | None = None
    called_as: Mapping[str, CalledAs] = {}
    mark: str = ""


def previous(parsed: Parsed) -> str | None:
    """The id of the response that this ask goes on from. Raises PreviousNotFound for what can be none."""
    echo: Echo = parsed.echo
    wanted = echo.outline.previous_response_id
    if wanted is not None and not _ID.fullmatch(wanted):
        raise not_found(wanted)
    return wanted


def not_found(wanted: str) -> PreviousNotFound:
    """Nothing is kept under this id, at least not for this client."""
    return PreviousNotFound(f"Previous response{shown(wanted)} not found.", param="previous_response_id")


def shown(wanted: str) -> str:
    """An id as it may stand in a sentence; nothing when it is none."""
    return f" with id '{wanted}'" if _ID.fullmatch(wanted) or _ITEM.fullmatch(wanted) else ""


def place_of(item: str) -> tuple[str, int] | None:
    """The mark of the response that an item was in, and its place there, by its id; None for what is no such id."""
    found = _ITEM.fullmatch(item)
    return None if found is None else (found[1], int(found[2]))


def asked_now(parsed: Parsed) -> tuple[Message, ...]:
    """The messages that are to be kept: all but the instructions."""
    echo: Echo = parsed.echo
    return parsed.ask.messages[bool(echo.outline.instructions) :]


def joined(parsed: Parsed, earlier: Turn | None) -> Parsed:
    """The ask with the conversation that it goes on from. Raises InvalidAsk for one that has become too long."""
    if earlier is None:
        return parsed
    ask, own = parsed.ask, bool(parsed.echo.outline.instructions)
    messages = (*ask.messages[:own], *earlier.asked, *earlier.answer, *ask.messages[own:])
    if len(messages) > MESSAGES:
        message = f"The stored conversation has more than {MESSAGES} messages."
        raise InvalidAsk(message, param="previous_response_id")
    return replace(parsed, ask=replace(ask, messages=messages))


def marked(parsed: Parsed, mark: str, keeper: Keeper, *, stored: bool) -> Parsed:
    """The ask with ids that nobody can guess in its response, which `keeper` gets.

    `mark` is fresh randomness, letters and digits. `stored` is whether the response can be had again by its id.
    """
    outline = replace(parsed.echo.outline, id=f"resp_{mark}", store=stored)
    return replace(parsed, echo=replace(parsed.echo, outline=outline, keeper=keeper, mark=mark))


_TURN = msgpack.Decoder(Turn)
_ITEMS = msgpack.Decoder(tuple[tuple[Part, ...], ...])


def pack(turn: Turn) -> bytes:
    """A turn for a store that holds bytes."""
    return msgpack.encode(turn)


def unpack(packed: bytes) -> Turn:
    """What `pack` was given."""
    return _TURN.decode(packed)


def pack_items(answered: Answered) -> bytes:
    """The items of an answer, alone, for such a store."""
    return msgpack.encode(answered.items)


def unpack_item(packed: bytes, place: int) -> tuple[Part, ...] | None:
    """One of the items that `pack_items` was given; None where there is none in this place."""
    items = _ITEMS.decode(packed)
    return items[place] if place < len(items) else None


def input_items(turn: Turn, mark: str) -> Sequence[wire.ListedItem]:
    """What led to a response, as items, the earliest first. `mark` stands in their ids, by which none is found."""
    listed = [item for message in turn.asked for item in _listed(message)]
    return [replace(item, id=f"{item.id}_{mark}_in{place}") for place, item in enumerate(listed)]


def _listed(message: Message) -> Iterator[wire.ListedItem]:
    """The items of one message, whose ids are but their kind."""
    if message.role not in {Role.ASSISTANT, Role.TOOL}:
        texts = tuple(wire.InputText(part.text) for part in message.parts if isinstance(part, Text))
        yield wire.InputMessage("msg", message.role, texts)
        return
    for part in message.parts:
        match part:
            case Text(text):
                yield wire.MessageItem("msg", "completed", (wire.OutputText(text),))
            case Refusal(text):
                yield wire.MessageItem("msg", "completed", (wire.RefusalText(text),))
            case Reasoning(text):
                yield wire.ReasoningItem("rs", "completed", (wire.ReasoningText(text),))
            case ToolCall(call_id, name, arguments):
                yield wire.CallItem("fc", "completed", call_id, name, arguments)
            case ToolResult(call_id, text):
                yield wire.ResultItem("fco", "completed", call_id, text)
