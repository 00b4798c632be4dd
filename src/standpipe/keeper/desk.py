"""A desk: one worker's connection at the keeper. What the worker says becomes calls of what really decides.

All errands of a connection end with it; those that run keep their slots for a moment more, because their engines notice
the end of their clients later. Must not know how the worker got its asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, cast

from standpipe.chat.errors import Failure
from standpipe.keeper import frames, messages
from standpipe.keeper.errand import Errand, Hall, key_of, refusal
from standpipe.observe.hooks import Hook, Record
from standpipe.policy.identity import ClientKey

NOTICED = 0.25
"""Seconds after which an engine has noticed that a dead worker's connections are gone."""
_DEAF = 64 * 1024 * 1024
"""Bytes that a worker may leave unread."""
_TOLD_AT_ONCE = 512
"""Asks of whose clients it is told where they stand: some 3 milliseconds."""
_FIELDS = len(Record.__struct_fields__)


class Keeps(Protocol):
    """What a desk asks of the keeper; see `Keeper`."""

    desks: set[Desk]
    hooks: Sequence[Hook]
    paced: set[ClientKey]
    recovering: bool

    @property
    def hall(self) -> Hall: ...

    def came(self, desk: Desk, hello: messages.Hello) -> None: ...

    def is_ready(self, desk: Desk) -> None: ...

    def gone(self, desk: Desk) -> None: ...

    def cannot_understand(self, pid: int, broken: frames.Broken) -> None: ...


def _of_errand(do: Callable[[Errand, Any], None]) -> Callable[[Desk, Any], None]:
    """What a message about one errand does. An errand that is over by then needs nothing."""

    def take(desk: Desk, message: Any) -> None:
        if (errand := desk.errands.get(message.id)) is not None:
            do(errand, message)

    return take


class Desk(asyncio.Protocol):
    """One worker's connection."""

    def __init__(self, keeper: Keeps) -> None:
        self.keeper = keeper
        self.hall = keeper.hall
        self.errands: dict[int, Errand] = {}
        self.pid = 0
        self.warnings: frozenset[str] = frozenset()
        self.ready = False
        """It has told all that was open."""
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.heard = self.now()
        self._reader = frames.Reader(messages.Up)
        self._transport: asyncio.Transport | None = None
        self._out: list[Any] = []
        self._told = 0
        self._held: list[Any] = []
        """What was said while asks are not granted yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by name
        self.keeper.desks.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self.keeper.gone(self)
        for errand in list(self.errands.values()):
            if not errand.runs:
                errand.end()
        asyncio.get_running_loop().call_later(NOTICED, self.clear)

    def clear(self) -> None:
        """Let go of what is still held here. Idempotent."""
        for errand in list(self.errands.values()):
            errand.end()

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection when all that was said has gone out."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def send(self, message: Any) -> None:
        """Tell the worker, with all else that this turn of the loop has to say."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(frames.pack(out))
            if self._transport.get_write_buffer_size() > _DEAF:
                self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard = self.now()
        try:
            for message in self._reader.feed(data):
                if self.keeper.recovering and not isinstance(message, messages.Hello | messages.Ready):
                    self._held.append(message)
                else:
                    self.take(message)
        except frames.Broken as broken:
            self.keeper.cannot_understand(self.pid, broken)
            self.abort()

    def take(self, message: Any) -> None:
        """Do what the worker wants. A bug costs one message, and no other ask."""
        try:
            self._takes[type(message)](self, message)
        except Exception as bug:  # noqa: BLE001 - see above
            self.hall.bug(bug)

    def adopt(self) -> None:
        """Take over the asks that stood with another keeper, of all that was said until now."""
        held, self._held = self._held, []
        for message in held:
            if isinstance(message, messages.Join) and message.stood is not None:
                self.take(message)
            else:
                self._held.append(message)

    def catch_up(self) -> None:
        """Do everything else that was said until now."""
        held, self._held = self._held, []
        for message in held:
            self.take(message)

    def _hello(self, hello: messages.Hello) -> None:
        self.pid = hello.pid
        self.keeper.came(self, hello)

    def _ready(self, _: messages.Ready) -> None:
        self.ready = True
        self.keeper.is_ready(self)

    def _join(self, join: messages.Join) -> None:
        if join.id in self.errands:
            return
        errand = self.errands[join.id] = Errand(self.hall, self.errands, self.send, join)
        if join.stood is None:
            errand.enter(join.prompt_tokens)
        else:
            errand.resume(join, join.stood)

    def _charge(self, charge: messages.Charge) -> None:
        for number, tokens in charge.tokens:
            if (errand := self.errands.get(number)) is not None:
                errand.charged(tokens)

    def _knock(self, knock: messages.Knock) -> None:
        client, now = key_of(knock.client), self.now()
        try:
            self.hall.admission.knock(client, now)
        except Failure as failure:
            self.send(refusal(knock.id, failure, self.hall.tat_in(client, now)))
        else:
            self.send(messages.Passed(knock.id))

    def _fault(self, fault: messages.Fault) -> None:
        client = key_of(fault.client)
        self.hall.admission.charge(client, self.now(), fault.count)
        self.keeper.paced.add(client)

    def _whose(self, whose: messages.Whose) -> None:
        client = key_of(whose.client)
        requests = self.hall.admission.asks(client)
        self.send(messages.Own(whose.id, requests, self.hall.tat_in(client, self.now())))

    def _records(self, records: messages.Records) -> None:
        for fields in records.records:
            record = Record(*fields[:_FIELDS])
            for hook in self.keeper.hooks:
                hook(record)

    def _pass_on(self, message: messages.Stored) -> None:
        for other in self.keeper.desks:
            if other is not self and other.ready:
                other.send(message)

    def _beat(self, beat: messages.Beat) -> None:
        self.warnings = frozenset(beat.warnings)

    def tell(self) -> None:
        """Tell where clients stand, where that has changed: of so many asks that it does not cost much."""
        numbers = list(self.errands)
        if len(numbers) > _TOLD_AT_ONCE:
            begin = self._told % len(numbers)
            self._told = begin + _TOLD_AT_ONCE
            numbers = (numbers + numbers)[begin : self._told]
        errands = ((number, self.errands[number]) for number in numbers)
        changed = [(number, told) for number, errand in errands if errand.told != (told := errand.standings())]
        if changed:
            self.send(messages.Told(changed))

    _takes: ClassVar[dict[type, Callable[[Desk, Any], None]]] = {
        messages.Hello: _hello,
        messages.Join: _join,
        messages.Ready: _ready,
        messages.Charge: _charge,
        messages.Spoke: _of_errand(lambda errand, spoke: errand.began(spoke.seconds)),
        messages.Over: _of_errand(Errand.over),
        messages.Swap: _of_errand(Errand.swap),
        messages.Seek: _of_errand(Errand.seek),
        messages.End: _of_errand(Errand.end),
        messages.Look: _of_errand(lambda errand, _: errand.look()),
        messages.Knock: _knock,
        messages.Fault: _fault,
        messages.Whose: _whose,
        messages.Records: _records,
        messages.Put: _pass_on,
        messages.Delete: _pass_on,
        messages.Renew: _pass_on,
        messages.Beat: _beat,
    }
