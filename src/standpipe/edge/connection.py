"""One HTTP/1 connection: bytes from a socket to requests for a handler, and the handler's answers back.

Owns the handler's task, and no timer: it knows its `deadline`, and the server's sweep calls `look` when that has come.
What it is doing is its `Phase` (see `phases`). Also here is what the connections of one server share (`Shared`).

While a request is answered the connection goes on reading, because that is the only way to see its client leave. What
comes then (a pipelined request) waits for the former's end, up to `read_ahead`; beyond that it is thrown away, and the
connection closes after the answer.

A client that shuts down its sending side while it is being answered has left, as far as we can know: proxies and
browsers that give up look exactly like that, and no engine must work for them.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from typing import cast

from standpipe.edge import proxy_protocol
from standpipe.edge.config import HIGH_WATER, LOW_WATER, EdgeConfig, RateDeadline
from standpipe.edge.intake import Incoming, Intake
from standpipe.edge.limiter import Lease, Verdict
from standpipe.edge.phases import NEXT, REQUESTLESS, Phase
from standpipe.edge.reader import Head, Reader, Rejected
from standpipe.edge.reply import DateCache, Http1Reply, give, whole
from standpipe.edge.seam import Handler, Refuse

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER switched on with no time: closing sends a reset instead of a clean end."""

_REFUSED = {
    Verdict.FULL: (503, "The server has too many open connections. Please try again later."),
    Verdict.CROWDED: (429, "Too many open connections from your address or network."),
}


class Shared:
    """What all connections of one server share, and what has become of them so far."""

    def __init__(self, handler: Handler, refuse: Refuse, config: EdgeConfig, *, proxied: bool) -> None:
        self.handler = handler
        self.refuse = refuse
        self.proxied = proxied
        self.configure(config)
        self.dates = DateCache()
        self.draining = False
        self.requests = 0  # for these three see server.EdgeStatistics
        self.rejected: Counter[int] = Counter()
        self.overdue: Counter[str] = Counter()
        self.open: set[Connection] = set()
        self.emptied = asyncio.Event()
        """No connection is open and no handler runs."""
        self.emptied.set()

    def configure(self, config: EdgeConfig) -> None:
        """Go by this from now on."""
        self.config = config
        self.allowances: Mapping[Phase, float] = {
            Phase.NEW: config.first_byte_timeout,
            Phase.HEAD: config.header_timeout,
            Phase.ANSWERING: math.inf,
            Phase.IDLE: config.idle_timeout,
            Phase.LINGERING: config.linger,
            Phase.LOST: math.inf,
        }
        """Seconds that a connection may stay in each phase. CLOSING has a backlog's deadline."""

    def left(self, connection: Connection) -> None:
        """A connection has closed, and its handler has returned."""
        self.open.discard(connection)
        if not self.open:
            self.emptied.set()


class Connection(asyncio.Protocol):
    """One socket."""

    __slots__ = (
        "_backlog", "_discarded", "_expects", "_intake", "_keep_alive", "_lease", "_loop", "_preface", "_reader",
        "_reply", "_requests", "_resets", "_shared", "_task", "_transport", "_written", "deadline", "phase",
    )  # fmt: skip

    def __init__(self, shared: Shared, lease: Lease) -> None:
        """Releases its lease in the end."""
        self.phase = Phase.NEW
        self.deadline = math.inf
        """When to `look`, in the loop's time."""
        self._shared = shared
        self._lease = lease
        lease.give_way = self._give_way
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(shared.config)
        self._preface: bytes | None = b"" if shared.proxied and lease.trusted else None
        self._backlog: RateDeadline | None = None
        """Held against a reader for whom too much waits, or everything that still does while CLOSING."""
        self._reply: Http1Reply | None = None
        self._intake: Intake | None = None
        self._task: asyncio.Task[None] | None = None
        self._requests = 0
        self._written = 0
        self._discarded = 0
        self._keep_alive = True
        self._expects = False
        self._resets = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are one by duck alone
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self._shared.open.add(self)
        self._shared.emptied.clear()
        self.deadline = self._loop.time() + self._shared.allowances[Phase.NEW]

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase is Phase.IDLE or phase is Phase.HEAD:
            self._reader.receive(data)
            if self._backlog is None:
                self._read_head()
            else:
                self._hold_ahead()
        elif phase is Phase.ANSWERING:
            self._reader.receive(data)
            if self._reader.whole:
                self._hold_ahead()
            else:
                self._read_body()
        elif phase is Phase.NEW:
            self._meet(data)
        elif phase is Phase.LINGERING:
            self._discarded += len(data)
            if self._discarded > self._shared.config.linger_bytes:
                self.abort()

    def eof_received(self) -> None:
        """The client has left, or will say no more. The transport closes itself, once it is flushed."""
        self._dismiss()
        if self.phase is not Phase.LOST:
            self._to(Phase.CLOSING)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it was lost makes no difference
        self._lease.release()
        self._dismiss()
        self._transport = None
        self._to(Phase.LOST)
        if self._task is None:
            self._shared.left(self)

    def pause_writing(self) -> None:
        if self._backlog is None:
            self._watch()
        if self._reply is not None:
            self._reply.hold()

    def resume_writing(self) -> None:
        if self.phase is not Phase.CLOSING:
            self._backlog = None
            self.deadline = self._loop.time() + self._shared.allowances[self.phase]
        if self._reply is not None:
            self._reply.release()
        elif self.phase is Phase.IDLE or self.phase is Phase.HEAD:
            self._go_on()

    # Phases and deadlines.

    def _to(self, phase: Phase) -> None:
        """Go to a phase, with its deadline. A backlog's own deadline comes first."""
        if phase is self.phase:
            return
        assert phase in NEXT[self.phase], f"{self.phase} to {phase}"
        self.phase = phase
        if phase is Phase.CLOSING:
            self._watch()
        elif self._backlog is None or phase is Phase.LOST:
            self._backlog = None
            self.deadline = self._loop.time() + self._shared.allowances[phase]

    def _watch(self) -> None:
        """From now on the reader must take what was written."""
        stall = self._shared.config.write_timeout
        self._backlog = RateDeadline(self._loop.time(), window=stall, passed=self._taken())
        self.deadline = self._backlog.due

    def _taken(self) -> int:
        """Bytes that the kernel has taken."""
        return self._written - (0 if self._transport is None else self._transport.get_write_buffer_size())

    def look(self, now: float) -> None:
        """The deadline has come: cut, turn away or close whoever is late."""
        if self._backlog is not None:
            if self._backlog.missed(now, self._taken()):
                self._shared.overdue["write_stall"] += 1
                self.abort()
            else:
                self.deadline = self._backlog.due
            return
        match self.phase:
            case Phase.HEAD:
                self._shared.overdue["head"] += 1
                self._turn_away(408, "The request header did not arrive in time.")
            case Phase.NEW | Phase.IDLE:
                # Said nothing, so there is nothing to answer: an unasked 408 would only confuse.
                self._shared.overdue["first_byte" if self.phase is Phase.NEW else "idle"] += 1
                self._close()
            case _:
                self._close()

    # Reading.

    def _meet(self, data: bytes) -> None:
        """The first bytes: perhaps a PROXY header, and perhaps somebody who cannot come in."""
        if self._preface is not None:
            self._preface += data
            try:
                vouched = proxy_protocol.parse(self._preface)
            except proxy_protocol.Malformed:
                self._turn_away(400, "A PROXY protocol header was expected.")
                return
            if vouched is None:
                return
            data, self._preface = self._preface[vouched.size :], None
            if vouched.address is not None:
                self._lease.vouched(vouched.address)
        verdict = self._lease.verdict
        if verdict is Verdict.ADMIT:
            self._reader.receive(data)
            self._read_head()
        elif verdict is Verdict.CUT:
            self.abort()
        else:
            self._turn_away(*_REFUSED[verdict])

    def _read_head(self) -> None:
        try:
            head = self._reader.head()
        except Rejected as rejected:
            self._turn_away(rejected.status, rejected.reason)
            return
        if head is not None:
            self._begin(head)
        elif self.phase is not Phase.HEAD:
            self._to(Phase.HEAD)

    def _begin(self, head: Head) -> None:
        """Give one request to the handler, in a task that this connection owns."""
        shared = self._shared
        self._to(Phase.ANSWERING)
        self._requests += 1
        shared.requests += 1
        self._keep_alive = head.keep_alive and self._requests < shared.config.requests_per_connection
        self._expects = head.expects_continue
        self._intake = None if self._reader.whole else Intake(shared.config, head.length, self._wanted)
        self._reply = Http1Reply(
            self._send, self._stays_open, self._over, shared.dates, self._loop,
            bodiless=head.method == "HEAD", modern=head.modern,
        )  # fmt: skip
        request = Incoming(head.method, head.path, head.query, head.headers, self._lease.peer, self._intake)
        self._task = self._loop.create_task(shared.handler(request, self._reply))
        self._task.add_done_callback(self._handled)
        if self._intake is None:
            self._hold_ahead()
        elif self._reader.waiting:
            self._read_body()

    def _read_body(self) -> None:
        assert self._intake is not None
        reader, intake = self._reader, self._intake
        self._expects = False  # it did not wait for our word
        try:
            data = reader.body()
        except Rejected as rejected:
            self._out_of_step(rejected)
            return
        intake.take(data, reader.received)
        if reader.whole:
            intake.end()
            self._hold_ahead()
        elif intake.full and self._transport is not None:
            self._transport.pause_reading()

    def _hold_ahead(self) -> None:
        """Keep what comes before its time, within bounds. To stop reading instead would hide a client that leaves."""
        if self._reader.waiting > self._shared.config.read_ahead:
            self._reader.discard()
            self._keep_alive = False

    def _wanted(self) -> None:
        """A handler asks for a body that is not whole yet."""
        if self._transport is None:
            return
        if self._expects and self._reply is not None and not self._reply.started:
            self._send(_CONTINUE)
        self._expects = False
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def _out_of_step(self, rejected: Rejected) -> None:
        """A body's framing is broken: its request is void, and nothing after it can be read."""
        started = self._reply is not None and self._reply.started
        self._dismiss()
        if started:
            self._close()
        else:
            self._turn_away(rejected.status, rejected.reason)

    # Answering: what the reply calls.

    def _send(self, data: bytes) -> None:
        """Write to the socket."""
        if self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def _stays_open(self, framed: bool) -> bool:
        """Whether this connection outlives the answer. `framed`: the body's end shows without its close."""
        self._keep_alive = self._keep_alive and framed and self._reader.whole and not self._shared.draining
        return self._keep_alive

    def _over(self, reply: Http1Reply) -> None:
        """The answer is whole, or has to end as it is."""
        if not reply.cut:
            if not self._keep_alive:
                self._finish()
            return
        self._resets = reply.ends_by_closing
        if reply.started:
            self._hold_open()
        else:
            self._close()

    def _handled(self, task: asyncio.Task[None]) -> None:
        """The handler has returned: see that the reply is over, then go on with the next request."""
        self._task = None
        reply, self._reply, self._intake = self._reply, None, None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a handler failed", "exception": error, "task": task})
        if self._transport is None:
            self._shared.left(self)
        elif self.phase is Phase.ANSWERING and reply is not None:
            if not reply.started and not reply.cut:
                give(self._shared.refuse(500, "Internal server error."), reply)
            elif not reply.ended:
                reply.abort()
            if self.phase is Phase.ANSWERING:
                self._next()

    def _next(self) -> None:
        if not self._keep_alive or self._shared.draining:
            self._finish()
            return
        self._to(Phase.IDLE)
        if self._backlog is None:
            self._go_on()

    def _go_on(self) -> None:
        """Take up the next request, unless its former's answer still waits for the reader: one backlog is enough."""
        if not self._keep_alive:
            self._finish()
        elif self._reader.waiting:
            self._read_head()

    # Parting.

    def _dismiss(self) -> None:
        """The client has left: whatever its handler still does is for nobody."""
        if self._task is not None and self._reply is not None and not self._reply.over:
            self._reply.gone = True
            self._task.cancel()

    def _turn_away(self, status: int, reason: str) -> None:
        """Refuse in words, and have done with this connection."""
        self._shared.rejected[status] += 1
        self._send(whole(self._shared.refuse(status, reason), self._shared.dates))
        self._linger()

    def _finish(self) -> None:
        """Close after an answer. What has been read already tells whether more may be coming."""
        if self._reader.whole and not self._reader.waiting:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Go on reading for a moment: closing on unread bytes would reset the connection under the answer."""
        self._hold_open()
        if self.phase is Phase.LINGERING and self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _hold_open(self) -> None:
        """Close only after a moment in which the client reads what was written last, without an end to read. A browser
        throws away what it has not handed to its page yet when a body breaks off: the very frame that says why."""
        self._reader.discard()
        if self._transport is None or self._transport.is_closing():
            return
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._to(Phase.LINGERING)
        self._lease.part()

    def _close(self) -> None:
        """Flush, then close; with a reset where a clean end would make half a body look whole."""
        if self._transport is None:
            return
        if self._resets:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if self._transport.get_extra_info("sslcontext") is not None:
                self.abort()  # at its leisure a TLS transport would say a clean good-bye first
                return
        self._to(Phase.CLOSING)
        self._transport.close()

    def drain(self) -> None:
        """Close now if nobody is being answered. Somebody who has only just come may still say what they want."""
        if self.phase is Phase.IDLE:
            self._close()
        elif self.phase is Phase.NEW:
            self.deadline = min(self.deadline, self._loop.time() + self._shared.config.linger)

    def _give_way(self) -> bool:
        """Close at once if no whole request has come, and no answer is on its way. To a handler that waits for a body
        its client has left."""
        unread = self._transport is not None and self._transport.get_write_buffer_size() > 0
        if unread or not (self.phase in REQUESTLESS or self._arriving):
            return False
        self.abort()
        return True

    @property
    def _arriving(self) -> bool:
        """Whether a body is still coming, and nothing has been answered yet."""
        unanswered = self._reply is not None and not self._reply.started
        return self.phase is Phase.ANSWERING and not self._reader.whole and unanswered

    def abort(self) -> None:
        """Close at once, whatever is lost."""
        self._dismiss()
        self._to(Phase.LOST)
        if self._transport is not None:
            self._transport.abort()

    def __repr__(self) -> str:
        return f"<Connection {self.phase}, {self._requests} requests, {self._reader}>"
