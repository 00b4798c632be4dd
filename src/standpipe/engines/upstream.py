"""HTTP servers as engines: OpenAI-compatible ones (vLLM, SGLang, llama.cpp's server, hosted ones) and native Ollamas.

Bytes from the engine's socket are decoded and pushed into the sink inside one callback. The format is the dialects'
business and the wire is the client's; what is decided here is what belongs together: which model is asked for, when an
answer is over, what a status other than 200 means, and how faults of the wire are called in the house. An engine's own
words and its place never reach a failure's message.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import ClassVar, Protocol

from msgspec import Struct

from standpipe.chat.ask import Ask, Beginning, EmbedAsk, JsonObject, Vectors
from standpipe.chat.errors import EngineBroke, EngineDown, EngineFailed, EngineTimeout, Failure
from standpipe.chat.events import Event
from standpipe.dialects.engine_output import shown_model
from standpipe.dialects.ollama import to_engine as ollama_to_engine
from standpipe.dialects.ollama.from_engine import Decoder as OllamaDecoder
from standpipe.dialects.ollama.wire import is_gpt_oss
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.dialects.openai.faults import (
    answer_room,
    failure_from,
    failure_in_stream,
    has_no_completions,
    refused_fields,
)
from standpipe.dialects.openai.from_engine import Decoder
from standpipe.dialects.openai.to_engine import LLAMA, OPTIONAL, Extras, completion_body, request_body
from standpipe.engines.engine import Card, Health, NeedsTemplate, Sink, lacking
from standpipe.engines.guard.control_tokens import harmless_body
from standpipe.engines.listing import SHOWN, at_work, listed, of_llama, of_ollama, of_sglang
from standpipe.flow import Flow
from standpipe.http_client.client import AnswerTooLarge, Client, Method
from standpipe.http_client.transport import ConnectFailed, DeadlinePassed, Headers, HttpFault

GRACE = 2.0
"""Seconds in which usage may follow the reason of an end, before the engine is left."""
HEALTH_PATIENCE = 3.0
"""Seconds within which an engine that is up lists its models."""
ERROR_LIMIT = 65_536
"""Bytes of an error's body that are read."""
MODELS_LIMIT = 1_048_576
"""Bytes of a list of models."""
EMBEDDINGS_LIMIT = 16_777_216
"""Bytes of an answer with embeddings: 128 vectors of 4096 numbers, spelled out, are some 11 MB."""
EMBEDDINGS_PATIENCE = 60.0
"""Seconds within which all embeddings of one ask must have come."""

Log = Callable[[str, str], None]
"""Takes a level (debug, info, warning) and a sentence for the operator."""

_DESCRIBED = 64
"""Models that are looked at one by one, at most."""
_BLANK = Card()
_LISTS_NOTHING = frozenset({404, 405, 501})
_CONTINUERS = (b'"vllm"', b'"sglang"', b'"llamacpp"')
"""What servers that go on with a turn call themselves, as the owner of their models."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a server understands beyond the format, and whether a connection outlives a stream.

    `reuse_after_stream` is false for a server that closes the connection after a stream although it advertises
    keep-alive: each ask then has a connection of its own.
    """

    extras: Extras = Extras()
    reuse_after_stream: bool = True


PLAIN = Capabilities()
LLAMA_CPP = Capabilities(extras=LLAMA, reuse_after_stream=False)


class StreamDecoder(Protocol):
    """A format's reader of one answer; see `dialects.openai.from_engine.Decoder`."""

    done: bool

    @property
    def over(self) -> bool: ...

    def feed(self, read: bytes) -> list[Event]: ...

    def end(self) -> list[Event]: ...


class Upstream:
    """One OpenAI-compatible server. Its base URL, key and deadlines are the client's.

    The paths, and the methods that write and read the format, are what a server of another format has otherwise.
    """

    CHAT: ClassVar[str] = "/chat/completions"
    RAW: ClassVar[str] = "/completions"
    MODELS: ClassVar[str] = "/models"
    EMBEDDINGS: ClassVar[str] = "/embeddings"
    METRICS: ClassVar[str] = "/metrics"

    def __init__(
        self,
        name: str,
        client: Client,
        *,
        slots: int,
        models: Sequence[str] = (),
        capabilities: Capabilities = PLAIN,
        prefills: bool = False,
        log: Log = lambda _level, _text: None,
    ) -> None:
        """`name` is shown to the public (`url.describe_url` makes one). `models` are the server's own names of models
        that its operator vouches for, listed or not. The first stands for any name that the server does not know;
        where there is none, the first that it lists. `prefills`: its operator vouches that it goes on with a turn.
        """
        self.name = name
        self.slots = slots
        self._client = client
        self._models = tuple(models)
        self._capabilities = capabilities
        self._log = log
        self._without: frozenset[str] = frozenset()
        """Optional fields that it refuses."""
        self._told: set[str] = set()
        self._served: dict[str, str] = {}
        """The models as last listed, the default first: the name that is shown, and the server's own."""
        self._cards: dict[str, Card] = {}
        """What the list tells of each, by the name that is shown."""
        self._is_llama = False
        self._is_vllm = False
        self._tells_work = True
        """Whether it says how many asks it has, as far as we know."""
        self._described: dict[str, Card] = {}
        """What was found out of each beside the list, once."""
        self._prefills = prefills
        self._goes_on = False
        """It is a server that goes on with a turn that has begun."""

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """As `Continuer`. What was thought before gets lost in many a template, and gpt-oss is written anew."""
        return (self._goes_on or self._prefills) and not begun.reasoning and not is_gpt_oss(ask.model or "")

    async def answer(self, ask: Ask, sink: Sink) -> None:
        model = self._named(ask.model) or await self._model_for(ask)
        limit = self._capabilities.extras.max_tokens
        without, most = self._without, inf
        while True:
            patience = asyncio.timeout(None)
            document, lost = self._document(ask, model)
            answer = _Answer(lacking(sink, lost), self._decoder(ask), patience)
            for name in without:
                document.pop(name, None)
            if document.get(limit, 0) > most:
                document[limit] = most
            try:
                path, document = await self._placed(ask, document)
                async with patience:
                    await self._client.request(
                        "POST", path, on_head=answer.head, on_body=answer.body, headers=_whose(ask.client),
                        body=harmless_body(document, ask.operator_prompt), keep=self._capabilities.reuse_after_stream,
                    )  # fmt: skip
            except TimeoutError:
                pass  # only its end was missing
            except HttpFault as fault:
                if not answer.over:
                    raise _renamed(fault) from fault
            finally:
                sink.connect(None)
            if answer.succeeded:
                break
            if ask.raw and has_no_completions(answer.status, answer.collected):
                raise NeedsTemplate
            refused = refused_fields(answer.status, answer.collected, OPTIONAL & document.keys())
            left = answer_room(answer.status, answer.collected)
            if not refused and not 0 < left < min(most, document.get(limit, 0)):
                break
            # It is asked once more, without what it does not take, for no more than it has room for.
            without |= refused
            most = left or most
        if answer.succeeded and without != self._without:
            self._without = without
            self._log("info", f"{self.name} refuses {', '.join(sorted(without))}: it is asked without from now on")
        answer.end()

    def _odd(self, what: str) -> None:
        """Something in an answer could not be read, and was not needed: told once."""
        self._tell("debug", f"sends a `{what}` that is left out because it cannot be read")

    def _tell(self, level: str, what: str) -> None:
        """Log it, once."""
        if what not in self._told:
            self._told.add(what)
            self._log(level, f"{self.name} {what}")

    async def embed(self, ask: EmbedAsk) -> Vectors:
        model = await self._model_for(ask)
        try:
            answer = await self._client.fetch(
                "POST",
                self.EMBEDDINGS,
                body=harmless_body(openai_embeddings.request_body(ask, model)),
                headers=_whose(ask.client),
                limit=EMBEDDINGS_LIMIT,
                within=EMBEDDINGS_PATIENCE,
            )
        except HttpFault as fault:
            raise _renamed(fault) from fault
        if not 200 <= answer.status < 300:
            retry_after = answer.headers.get(b"retry-after", b"").decode("latin-1") or None
            raise openai_embeddings.refusal_from(answer.status, answer.body, retry_after)
        return openai_embeddings.vectors_from(answer.body, len(ask.texts))

    async def models(self) -> tuple[str, ...]:
        names = await self._list(within=10.0)
        for name, own in self._served.items():
            if name not in self._described and len(self._described) < _DESCRIBED:
                self._described[name] = await self._describe(own)
        return names

    def card(self, model: str, /) -> Card:
        """As `Described.card`: from the list, and what that does not tell from what was found out beside it."""
        card, beside = self._cards.get(model, _BLANK), self._described.get(model)
        if beside is None:
            return card
        return Card(
            card.window or beside.window,
            beside.chats if card.chats is None else card.chats,
            beside.sees if card.sees is None else card.sees,
        )

    async def _describe(self, model: str) -> Card:
        """Ask once what the list does not tell of a model, where there is a page that may."""
        if self._is_llama:
            return of_llama(await self._page("GET", "/props"))
        if self._is_vllm:
            return Card(sees=await self._counts_image(model))
        return of_sglang(await self._page("GET", "/get_model_info")) if self._goes_on else _BLANK

    async def _counts_image(self, model: str) -> bool:
        """Whether a vLLM can tell the tokens of an image, which costs its GPU nothing: it refuses to for a model that
        sees none, and tells by no other means."""
        return bool(await self._page("POST", "/tokenize", {"model": model, "messages": SHOWN}))

    async def _page(self, method: Method, path: str, document: JsonObject | None = None) -> bytes:
        """A page at a server's root that it may have or not: nothing where it has none."""
        with suppress(HttpFault):
            answer = await self._client.fetch(
                method,
                path,
                body=harmless_body(document) if document else b"",
                limit=MODELS_LIMIT,
                within=HEALTH_PATIENCE,
                below=False,
            )
            if answer.status == 200:
                return answer.body
        return b""

    async def health(self) -> Health:
        try:
            await self._list(within=HEALTH_PATIENCE)
        except EngineFailed as failure:
            self._tells_work = True  # another may come back in its place
            self._described.clear()
            return Health(up=False, reason=failure.message)
        if not self._tells_work or not self.METRICS:
            return Health(up=True)
        told = at_work(await self._page("GET", "/slots" if self._is_llama else self.METRICS))
        self._tells_work = told is not None  # asked again only where it was told
        return Health(True, None, 0, *(told or ()))

    async def close(self) -> None:
        await self._client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.slots} slots, {self._client!r}>"

    def _document(self, ask: Ask, model: str) -> tuple[JsonObject, tuple[str, ...]]:
        """The body of a request, and what of the ask it does without."""
        return (completion_body if ask.raw else request_body)(ask, model, extras=self._capabilities.extras), ()

    async def _placed(self, ask: Ask, document: JsonObject) -> tuple[str, JsonObject]:
        """Where a document is sent, and as what."""
        return self.RAW if ask.raw else self.CHAT, document

    def _decoder(self, ask: Ask) -> StreamDecoder:
        return Decoder(_mark(), ask.sampling, self._odd)

    async def _model_for(self, ask: Ask | EmbedAsk) -> str:
        """The name to ask the server for. Asks it for its list when there is nothing else to go by."""
        known = self._named(ask.model)
        if known is not None:
            return known
        if not self._served:
            await self._list(within=10.0)
        return next(iter(self._served.values()))

    def _named(self, name: str | None) -> str | None:
        """The server's own name of this model, or of the one that stands for it, as far as we know."""
        if name is not None and name in self._served:
            return self._served[name]
        return self._models[0] if self._models else None

    async def _list(self, *, within: float) -> tuple[str, ...]:
        """The models, the default first. A server without a list is up all the same if its model was named."""
        try:
            answer = await self._client.fetch("GET", self.MODELS, limit=MODELS_LIMIT, within=within)
        except HttpFault as fault:
            raise _renamed(fault) from fault
        served = {shown_model(name): name for name in self._models}
        if 200 <= answer.status < 300:
            cards = listed(answer.body)
            self._is_llama, self._is_vllm = b'"llamacpp"' in answer.body, b'"vllm"' in answer.body
            self._goes_on = any(owner in answer.body for owner in _CONTINUERS)
            self._cards = {shown_model(name): card for name, card in cards.items()}
            if cards and (missing := served.keys() - self._cards.keys()):
                self._tell("warning", f"does not list {', '.join(sorted(missing))}, and is asked for it all the same")
            served |= {shown_model(name): name for name in cards}
        elif answer.status not in _LISTS_NOTHING:
            raise _refused(failure_from(answer.status, answer.body), answer.status)
        if not served:
            raise EngineFailed(
                "The engine lists no models, and no model is configured for it.", upstream_status=answer.status
            )
        self._served = served
        return tuple(served)


class Ollama(Upstream):
    """A native Ollama: `ollama://host[:port]`. Its client's base URL has no path.

    Its own paths tell more than its OpenAI-compatible ones: durations, levels of thinking, and a conversation that does
    not fit is an error there and not a conversation without its beginning. All but the format is as above.
    """

    CHAT: ClassVar[str] = "/api/chat"
    RAW: ClassVar[str] = "/api/generate"
    MODELS: ClassVar[str] = "/api/tags"
    EMBEDDINGS: ClassVar[str] = "/v1/embeddings"
    METRICS: ClassVar[str] = ""  # it has none

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """As `Continuer`. Any but a gpt-oss takes reasoning without an answer for done."""
        return bool(begun.text) or is_gpt_oss(ask.model or "")

    def _document(self, ask: Ask, model: str) -> tuple[JsonObject, tuple[str, ...]]:
        return (ollama_to_engine.raw_body if ask.raw else ollama_to_engine.request_body)(ask, model), ()

    async def _describe(self, model: str) -> Card:
        return of_ollama(await self._page("POST", "/api/show", {"model": model}))

    def _decoder(self, ask: Ask) -> StreamDecoder:
        return OllamaDecoder(_mark(), failure_in_stream, ask.sampling, self._odd)


class _Answer:
    """Receives one answer: what is one goes into the sink as it comes, an error is collected within bounds.

    Which status it has decides, and then what it says, never how it is labelled.
    """

    __slots__ = ("_decoder", "_patience", "_pieces", "_retry_after", "_sink", "_size", "status", "succeeded")

    def __init__(self, sink: Sink, decoder: StreamDecoder, patience: asyncio.Timeout) -> None:
        """`patience` begins to run out when the engine has told why its answer ended."""
        self._sink, self._decoder, self._patience = sink, decoder, patience
        self._retry_after: str | None = None
        self._pieces: list[bytes] = []
        self._size = self.status = 0
        self.succeeded = False

    @property
    def over(self) -> bool:
        """The engine has told why its answer ended; how its connection ends says nothing any more."""
        return self._decoder.over

    @property
    def collected(self) -> bytes:
        """As much of an error's body as is read."""
        return b"".join(self._pieces)[:ERROR_LIMIT]

    def head(self, status: int, headers: Headers, flow: Flow) -> None:
        self.status = status
        self.succeeded = 200 <= status < 300
        if not self.succeeded:
            retry_after = headers.get(b"retry-after")
            self._retry_after = None if retry_after is None else retry_after.decode("latin-1")
            return
        if b"content-encoding" in headers and headers[b"content-encoding"].lower() not in {b"identity", b""}:
            raise EngineFailed("The engine sent a compressed response, which was not requested.")
        self._sink.connect(flow)

    def body(self, data: bytes) -> bool:
        if self.succeeded:
            # Without events it tells that the engine lives: a comment, an empty delta, a part of a whole answer.
            self._sink.take(self._decoder.feed(data))
            if not self._decoder.done and self._decoder.over and self._patience.when() is None:
                self._patience.reschedule(asyncio.get_running_loop().time() + GRACE)
            return self._decoder.done
        self._pieces.append(data)
        self._size += len(data)
        return self._size > ERROR_LIMIT

    def end(self) -> None:
        """The answer has ended. Raises what it was instead of a whole one."""
        if not self.succeeded:
            raise failure_from(self.status, self.collected, self._retry_after)
        if events := self._decoder.end():
            self._sink.take(events)


def _refused(failure: Failure, status: int) -> EngineFailed:
    """No client had a part in this, whatever the status says."""
    if isinstance(failure, EngineFailed):
        return failure
    return EngineFailed(f"The engine answered with status {status}.", upstream_status=status)


def _renamed(fault: HttpFault) -> EngineFailed:
    """A fault of the wire in the house's words, without the engine's place."""
    match fault:
        case ConnectFailed():
            return EngineDown("The engine cannot be reached.")
        case DeadlinePassed(what="connection"):
            return EngineDown("The engine did not accept a connection in time.")
        case DeadlinePassed(seconds=seconds):
            return EngineTimeout(f"The engine sent nothing for {seconds:g} s.")
        case AnswerTooLarge():
            return EngineFailed("The engine sent a response that is too large.")
        case _:
            return EngineBroke("The connection to the engine was lost.")


def _whose(client: str | None) -> tuple[tuple[str, str], ...]:
    """What tells a Standpipe below whose ask this is."""
    return () if client is None else (("x-forwarded-for", client),)


def _mark() -> str:
    """What tells one answer's made-up ids from another's: never guessed by anybody, so any randomness will do."""
    return f"{random.getrandbits(32):08x}"
