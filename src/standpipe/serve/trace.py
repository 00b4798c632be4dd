"""The account of one ask: what has been learnt of it so far, and what that makes of its answer and of its record.

It marks the answer (id, time, the model that really answers, how long it waited), and one `Record` of it goes to the
hooks in the end, whatever became of the ask. Decides nothing, waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from standpipe.chat.errors import EngineFailed, Failure
from standpipe.chat.events import NOTHING, AnswerBuilder
from standpipe.dialects.dialect import Dialect, Encoder, Parsed, Stamp
from standpipe.engines.pool import Pool, Report
from standpipe.observe.hooks import Record
from standpipe.policy.identity import ClientKey
from standpipe.serve.exchange import Exchange
from standpipe.serve.meter import Meter


class Account:
    """One ask. Instants are the loop's time, in seconds."""

    __slots__ = (
        "_clock", "_dialect", "_exchange", "_pool", "_wall_clock",
        "arrived", "client", "granted_at", "meter", "parsed", "report", "status",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        pool: Pool,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`clock` is the loop's, `wall_clock` gives Unix seconds."""
        self._exchange = exchange
        self._dialect = dialect
        self._pool = pool
        self._clock = clock
        self._wall_clock = wall_clock
        self.arrived = clock()
        self.granted_at: float | None = None
        self.client: ClientKey | None = None
        self.parsed: Parsed | None = None
        self.meter: Meter | None = None
        self.report = Report()
        self.status = 200

    def granted(self) -> None:
        """The ask has its slot."""
        self.granted_at = self._clock()

    def encoder(self) -> Encoder:
        """What encodes the stream. Called once, right before its head is sent."""
        assert self.parsed is not None
        return self._dialect.encoder(self.parsed, self._stamp(self.parsed))

    def whole(self, fold: AnswerBuilder) -> bytes:
        """The body of a whole answer. Raises EngineFailed when it is not whole."""
        answer = fold.answer
        if answer is None:
            raise EngineFailed("The engine ended its answer without finishing it.")
        assert self.parsed is not None
        return self._dialect.answer(self.parsed, self._stamp(self.parsed), answer)

    def nothing(self) -> bytes:
        """The body of the answer to an ask without messages."""
        assert self.parsed is not None
        return self._dialect.answer(self.parsed, self._stamp(self.parsed), NOTHING)

    def _stamp(self, parsed: Parsed) -> Stamp:
        """The answer's mark. Its headers tell how long it waited and how often it was tried."""
        exchange, meter = self._exchange, self.meter
        exchange.extra += (
            (b"x-standpipe-waited", b"%.3f" % self._waited(self._clock())),
            (b"x-standpipe-attempts", b"%d" % (self.report.attempts or 1)),
        )
        model = (meter.model if meter else None) or self._pool.resolve(parsed.ask.model)
        return Stamp(exchange.id, int(self._wall_clock()), model)

    def _waited(self, now: float) -> float:
        return (now if self.granted_at is None else self.granted_at) - self.arrived

    def record(self, failure: Failure | None, hash_client: Callable[[str], str]) -> Record:
        """How it went."""
        now = self._clock()
        meter, report = self.meter, self.report
        usage = meter.usage if meter else None
        first = meter.first_token_at if meter else None
        return Record(
            id=self._exchange.id,
            dialect=self._dialect.name,
            client=hash_client(self.client.address) if self.client else "-",
            status=failure.status if failure and self.status == 200 else self.status,
            stream=bool(self.parsed and self.parsed.stream),
            model=(meter.model if meter else None) or report.model,
            engine=report.engine,
            failure=failure.kind if failure else None,
            waited=self._waited(now),
            first_token=None if first is None else first - self.arrived,
            duration=now - self.arrived,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else (meter.tokens if meter else None),
            attempts=report.attempts,
        )

    def __repr__(self) -> str:
        return f"<Account {self._exchange.id} {self.status}>"
