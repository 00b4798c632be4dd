"""What is kept of a response, and how a kept conversation joins the next ask.

Values only; where they live, for how long and whose they are is not known here. A turn holds everything that was said
up to its end, so that the next ask needs no other. Instructions are no part of it: they hold for one response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct, msgpack
from msgspec.structs import replace

from standpipe.chat.ask import Message
from standpipe.chat.errors import InvalidAsk, PreviousNotFound
from standpipe.dialects.bounds import MESSAGES
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.tools import CalledAs

_ID = re.compile(r"resp_[A-Za-z0-9]{1,64}")


class Turn(Struct, frozen=True):
    """One answered ask: the response as it was given (JSON), and all messages up to it."""

    response: bytes
    messages: tuple[Message, ...]


Keeper = Callable[[str, Turn], None]
"""Takes what shall be kept, under its id."""


class Echo(Struct, frozen=True):
    """What a response repeats of its request, whether the client wants it kept, and, if it will be, who keeps it.

    `called_as` is, for functions that stand for other tools, what a call of each is to the client. The encoder gives
    the keeper the turn as soon as it is whole, and nothing of an answer that is not.
    """

    outline: wire.Response
    keep: bool = False
    keeper: Keeper | None = None
    called_as: Mapping[str, CalledAs] = {}


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
    return f" with id '{wanted}'" if _ID.fullmatch(wanted) else ""


def joined(parsed: Parsed, earlier: Turn | None, token: str, keeper: Keeper) -> Parsed:
    """The ask with the conversation that it goes on from, and its response under an id that nobody can guess.

    `token` is fresh randomness, letters and digits; `keeper` gets the response if the client wants it kept.
    Raises InvalidAsk for a conversation that has become too long.
    """
    echo: Echo = parsed.echo
    ask = parsed.ask
    if earlier is not None:
        own = bool(echo.outline.instructions)
        ask = replace(ask, messages=(*ask.messages[:own], *earlier.messages, *ask.messages[own:]))
        if len(ask.messages) > MESSAGES:
            message = f"The stored conversation has more than {MESSAGES} messages."
            raise InvalidAsk(message, param="previous_response_id")
    if echo.keep:
        echo = replace(echo, outline=replace(echo.outline, id=f"resp_{token}", store=True), keeper=keeper)
    return replace(parsed, ask=ask, echo=echo)


_TURN = msgpack.Decoder(Turn)


def pack(turn: Turn) -> bytes:
    """A turn for a store that holds bytes."""
    return msgpack.encode(turn)


def unpack(packed: bytes) -> Turn:
    """What `pack` was given."""
    return _TURN.decode(packed)
