"""What a worker and the keeper tell each other.

`Hello` and `Welcome` carry a version, for people to look at; what makes two neighbouring versions understand each other
is that messages of an unknown tag and fields beyond the known ones are passed over (`frames`), and that a new field has
a default. Fields are never reordered or given another meaning.

No instant travels, because no two clocks need agree: ages and remaining times are in seconds, those of paces in
microseconds. An `id` is one ask's or one question's, chosen by the worker, and counts on one connection only. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

VERSION = 1

Standings = tuple[tuple[float, float, float, float, int, int, bool, bool], ...]
"""Where a client stands (`policy.line.Standing`), from its block down."""


class Message(Struct, array_like=True):
    """Anything that is told."""


class Secrets(Message, kw_only=True):
    """What all processes of a tap must agree on, and nobody else may know.

    Keys are derived from `tap`; `clients` is the key of the log's names, for `clients_left` more seconds.
    """

    tap: bytes
    clients: bytes
    clients_left: float


class Client(Message):
    """As `policy.identity.ClientKey`."""

    address: str
    block: str
    share: str | None = None
    paced: bool = False


# From a worker


class Hello(Message, tag="hello"):
    """The first message. `secrets` are those that it goes by, if it has any; `paces` the clients that may not start
    yet, and for how many microseconds; `left` those who left a moment ago and may come back to their place."""

    version: int
    pid: int
    secrets: Secrets | None = None
    paces: Sequence[tuple[str, int]] = ()
    left: Sequence[LeftPlace] = ()


class Wish(Message, kw_only=True):
    """What decides which engines may take an ask: as in `engines.seats.Journey`."""

    model: str | None = None
    embeds: bool = False
    least: int = 0
    prefixes: Sequence[bytes] = ()
    shows: bool = False


class LeftPlace(Message):
    """The place of an ask that has left, for its retry: it came `age` seconds ago and left `gone` seconds ago."""

    client: Client
    fingerprint: bytes
    wish: Wish
    number: int
    age: float
    eligible_in: float
    gone: float


class Stood(Message, kw_only=True):
    """Where an open ask stood with another keeper. Who runs has a `granted` age; `engine` is where, if it has a seat
    right now. `told` is the newest `Standings` of its client in its line, `told_age` seconds old."""

    number: int
    eligible_in: float
    granted: float | None = None
    spoken: float | None = None
    output: int = 0
    headroom: bool = False
    engine: str | None = None
    told: Standings = ()
    told_age: float = 0.0


class Join(Message, tag="join"):
    """An ask wants a slot. `stood` is where it stood with another keeper, if it came `age` seconds ago to that.

    `instants` and `held` are as in `serve.trace.Weight`.
    """

    id: int
    client: Client
    prompt_tokens: int
    output_cap: int
    size: int
    fingerprint: bytes
    wish: Wish
    patient: bool = True
    retry: bool = False
    client_timeout: float | None = None
    age: float = 0.0
    stood: Stood | None = None
    instants: int = 1
    held: bool = False


class Ready(Message, tag="ready"):
    """All that was open has been told."""


class Charge(Message, tag="charge"):
    """Output tokens of asks since their last charge."""

    tokens: Sequence[tuple[int, int]]


class Spoke(Message, tag="spoke"):
    """An engine begins to answer, after so many seconds where that says something of it."""

    id: int
    seconds: float | None = None


class Over(Message, tag="over"):
    """An attempt is over, and its seat free. `outcome` is `answered`, `left` or a `policy.retry.Verdict`; `broke` is
    whether the engine's connection did."""

    id: int
    outcome: str
    message: str = ""
    retry_after: float | None = None
    broke: bool = False


class Way(Message, kw_only=True):
    """What has become of an ask at engines, by their names: as in `engines.seats.Journey`. `fits` are the only ones
    that can go on with its answer, None where any may."""

    seen: Sequence[str] = ()
    worked: int = 0
    suspect: bool = False
    died_at: str | None = None
    delay: float = 0.0
    elsewhere: bool = False
    patience: float | None = None
    fits: Sequence[str] | None = None


class Swap(Message, tag="swap"):
    """An attempt has failed: what follows? Answered by `Decided` or `Refused`."""

    id: int
    found: str
    way: Way
    sent: bool = False


class Seek(Message, tag="seek"):
    """An ask that goes on wants a seat. Answered by `Seated` or `Refused`. `now` or never: it does not wait for one."""

    id: int
    way: Way
    now: bool = False


class End(Message, tag="end"):
    """An ask lets go of all that it holds. `tokens` are those that were not charged yet, `counted` all of its answer,
    `usage` the engine's count of prompt, answer and cached tokens. `failed`: not answered, or not at first; `praised`:
    answered by an engine, against the word of the `complainer`, where there was one."""

    id: int
    tokens: int = 0
    counted: int = 0
    usage: tuple[int, int, int] | None = None
    failed: bool = False
    praised: bool = False
    complainer: str | None = None


class Look(Message, tag="look"):
    """Where is this ask? Answered by `Place`."""

    id: int


class Knock(Message, tag="knock"):
    """May this client send anything at all? Answered by `Passed` or `Refused`."""

    id: int
    client: Client


class Fault(Message, tag="fault"):
    """A client has sent what is no ask, and counts like so many."""

    client: Client
    count: int = 1


class Whose(Message, tag="whose"):
    """What of this client waits? Answered by `Own`."""

    id: int
    client: Client


class Records(Message, tag="records"):
    """What became of asks: the fields of each `observe.hooks.Record`, in order."""

    records: Sequence[Sequence[Any]]


class Put(Message, tag="put"):
    """Keep this for a client, in the store of this name. The keeper passes it on to all other workers."""

    store: str
    name: str
    client: Client
    value: bytes


class Delete(Message, tag="delete"):
    """Forget what is kept under this name. It is passed on, too."""

    store: str
    name: str
    client: Client


class Renew(Message, tag="renew"):
    """Hold what stands under these names as long from now on as what is new. It is passed on, too."""

    store: str
    names: Sequence[str]
    client: Client


Stored = Put | Delete | Renew


class Beat(Message, tag="beat"):
    """The worker lives. `warnings` are those of `policy.alarm` that it has now."""

    warnings: Sequence[str] = ()


# From the keeper


class Welcome(Message, tag="welcome"):
    """All that was told is understood; from now on asks are granted. `epoch` tells one keeper from another."""

    version: int
    epoch: int
    secrets: Secrets


class Again(Message, tag="again"):
    """Another keeper takes over where this one listened: tell it everything."""


class Waits(Message, tag="waits"):
    """An ask waits in line, and has for `age` seconds, as its retry took its place; `tat_in` is how many microseconds
    its client's next instant is away."""

    id: int
    number: int
    eligible_in: float
    tat_in: int = 0
    told: Standings = ()
    age: float = 0.0


class Granted(Message, tag="granted"):
    """An ask has a slot, and a seat at this engine; None where it has to wait for one of another kind."""

    id: int
    engine: str | None = None
    number: int = 0
    tat_in: int = 0
    age: float = 0.0
    headroom: bool = False


class Refused(Message, tag="refused"):
    """What was asked is refused, with the failure of this `kind`."""

    id: int
    kind: str
    message: str
    retry_after: float | None = None
    tat_in: int = 0


class Decided(Message, tag="decided"):
    """Another attempt may follow, or none (`gives_up`)."""

    id: int
    gives_up: bool = False
    delay: float = 0.0
    elsewhere: bool = False
    suspect: bool = False
    died_at: str | None = None


class Seated(Message, tag="seated"):
    """A seat at this engine; None where there is none now."""

    id: int
    engine: str | None = None


class Place(Message, tag="place"):
    """Where an ask is: the position and the seconds that it is likely to wait, as far as they are known."""

    id: int
    position: int | None = None
    eta: float | None = None


class Passed(Message, tag="passed"):
    """The client may go on."""

    id: int


class Own(Message, tag="own"):
    """What of a client waits: position, seconds to wait, seconds waited."""

    id: int
    requests: Sequence[tuple[int, float | None, float]] = ()
    tat_in: int = 0


class Paced(Message, tag="paced"):
    """Clients that may not start yet, and for how many microseconds, whichever worker they came to."""

    paces: Sequence[tuple[str, int]]


class Told(Message, tag="told"):
    """Where clients stand now, each by one of its open asks."""

    standings: Sequence[tuple[int, Standings]]


class EngineTold(Message, kw_only=True):
    """One engine, as the keeper sees it: since when it is down, and its models, each with its window, whether it chats
    and whether it sees, as far as that is known."""

    name: str
    down: float | None = None
    reason: str | None = None
    draining: bool = False
    restarts: int = 0
    models: Sequence[tuple[str, int | None, bool | None, bool | None]] = ()


class Status(Message, tag="status", kw_only=True):
    """How everything is. `face` is a packed `observe.about.Status`, `roster` the engines as the operator gave them,
    packed by whoever opens them."""

    engines: Sequence[EngineTold] = ()
    default: str | None = None
    embedder: str | None = None
    draining: bool = False
    face: bytes = b""
    clients: bytes = b""
    clients_left: float = 0.0
    roster: bytes = b""


class Drain(Message, tag="drain"):
    """Let nobody in any more."""


Up = (
    Hello | Join | Ready | Charge | Spoke | Over | Swap | Seek | End | Look | Knock | Fault | Whose | Records | Stored
    | Beat
)  # fmt: skip
Down = (
    Welcome | Again | Waits | Granted | Refused | Decided | Seated | Place | Passed | Own | Paced | Told | Status
    | Drain | Stored
)  # fmt: skip
