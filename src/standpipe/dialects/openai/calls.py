"""Tool calls as OpenAI-compatible engines really stream them, to tool calls as they should be.

The format wants an `index` on every piece, and an `id` and a `name` on the first of each call only. Engines leave out
the index, give the same one to every call, leave out ids, make up a new id for every piece, repeat names, send a whole
call at once, or send arguments as an object. Here each call gets an index of ours in order of appearance, and an id
even if the engine has none.

A piece continues the call that its index, else its id, else the order of pieces points to. A piece with a name begins
a new call nevertheless, when the name or the id is another, or when the arguments of the old one are whole.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import ToolCallDelta


class PieceFunction(Struct):
    name: str | None = None
    arguments: Any = None


class Piece(Struct):
    """One element of a delta's `tool_calls`."""

    index: int | None = None
    id: str | None = None
    function: PieceFunction | None = None


class _Call:
    """One call so far."""

    __slots__ = ("id", "index", "name", "pieces")

    def __init__(self, index: int, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.pieces: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether the arguments so far are a JSON text that nothing could follow."""
        try:
            msgspec.json.decode("".join(self.pieces))
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class Calls:
    """The tool calls of one answer.

    Args:
        mark: stands in ids that are made up, so that the calls of different answers have different ids.
    """

    __slots__ = ("_by_id", "_by_index", "_calls", "_mark")

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}  # by the engine's index: the latest call that it gave it to

    def take(self, piece: Piece) -> ToolCallDelta | None:
        """The piece as it should be, or None when it says nothing yet."""
        function = piece.function or PieceFunction()
        arguments = _text(function.arguments)
        call = self._continued(piece, function.name, arguments)
        if call is None:
            if not (function.name or arguments or piece.id):
                return None  # it says nothing at all
            call = self._begin(piece)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if not call.pieces and arguments.strip() == "null":
            arguments = ""  # no object begins so
        if arguments:
            call.pieces.append(arguments)
        if call.name:
            return ToolCallDelta(call.index, arguments) if arguments else None
        if not function.name:
            return None  # its arguments wait for the name
        call.name = function.name
        return ToolCallDelta(call.index, "".join(call.pieces), call.id, call.name)

    def finish(self) -> bool:
        """Whether there were any. Raises EngineFailed for a call that never got its name."""
        if self._calls and not all(call.name for call in self._calls):
            raise EngineFailed("The engine sent a tool call without a name.")
        return bool(self._calls)

    def without_arguments(self) -> list[ToolCallDelta]:
        """What is missing from calls that came without a word: no arguments are an empty object."""
        return [ToolCallDelta(call.index, "{}") for call in self._calls if not "".join(call.pieces).strip()]

    def _continued(self, piece: Piece, name: str | None, arguments: str) -> _Call | None:
        by_id = self._by_id.get(piece.id) if piece.id else None
        if piece.index is not None:
            call = self._by_index.get(piece.index) or (None if name else by_id)
        elif piece.id:
            call = by_id
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or not name or not call.name:
            return call
        if call.name != name or (piece.id and by_id is None):
            return None
        return None if arguments and call.whole else call

    def _begin(self, piece: Piece) -> _Call:
        index = len(self._calls)
        call_id = piece.id or ""
        if not call_id or call_id in self._by_id:
            call_id = f"call_{self._mark}{index}"
        call = _Call(index, call_id)
        self._calls.append(call)
        self._by_id[call_id] = call
        return call


def _text(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()
