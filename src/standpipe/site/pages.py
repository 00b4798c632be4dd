"""Pages: what the site says, put together from templates, Markdown and the facts of this server.

A page is made again when a fact on it changes, and kept until then. The policy lets a page load what is ours and
nothing else.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from standpipe import __version__
from standpipe.chat.errors import Failure
from standpipe.engines.fleet import Fleet
from standpipe.serve.door import CLOSED
from standpipe.serve.exchange import Exchange, Header, failure_headers
from standpipe.serve.front import Route
from standpipe.settings import Settings, SettingsError
from standpipe.site import documents, openapi, preview, status, theme
from standpipe.site.assets import FRESH, Assets, Content, File, files, modules, text
from standpipe.site.facts import Facts, links, summary, words
from standpipe.site.status import Board

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}; "
    "require-trusted-types-for 'script'; trusted-types {}"
)
"""Only scripts of ours, none inline; and of texts, only the two libraries that are trusted to may make HTML, and the
chat page's one worker."""
_FRAME_ANCESTOR = re.compile(r"none|self|\*|https?://[A-Za-z0-9.*-]+(:[0-9]+)?")
_CHAT = "lit-html dompurify standpipe; frame-src 'self'"
"""What only the chat may: make HTML in three places, and frame the preview."""


def _frames(settings: Settings) -> str:
    """Who may show our pages in a frame, beside nobody, as policies write it."""
    words = (word for word in settings.frame_ancestors if word != "none")
    return " ".join("'self'" if word == "self" else word for word in words)


def page_headers(settings: Settings, trusted: str = "'none'", *, microphone: str = "()") -> tuple[Header, ...]:
    """What every page of ours carries. `trusted` are the names that may make HTML on it, and what else it may;
    `microphone` who may ask for it."""
    return (
        FRESH,
        (b"content-security-policy", _POLICY.format(_frames(settings) or "'none'", trusted).encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", f"camera=(), microphone={microphone}, geolocation=()".encode()),
    )


def _rooted(page: str, root: str = "./") -> str:
    """A page whose own addresses, written from the root in templates and texts, lead there from where the page lies:
    a proxy may have put all of it below any path, and need not tell."""
    return re.sub(r'(\s(?:href|src)=")/(?!/)', rf"\g<1>{root}", page)


class Made:
    """The handler of something that is made of the facts, and kept until they change."""

    def __init__(
        self, make: Callable[[Facts], str], kind: str, facts: Callable[[], Facts], headers: Sequence[Header] = (FRESH,)
    ) -> None:
        self._make = make
        self._kind = kind
        self._facts = facts
        self._headers = headers
        self._made: tuple[Facts, Content] | None = None

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if len(path) > 1 and path.endswith("/"):  # addresses on the page would lead elsewhere
            exchange.send(308, b"", b"text/plain", ((b"location", b"../" + path.strip("/").encode()),))
            return
        if self._kind == "html":
            exchange.common = CLOSED
        facts = self._facts()
        if self._made is None or self._made[0] != facts:
            self._made = facts, Content(self._make(facts).encode(), self._kind)
        self._made[1].send(exchange, *self._headers)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into a template: `{{name}}` escaped, `{{&name}}` as it is."""
    return re.sub(r"\{\{(&?)(\w+)\}\}", lambda m: values[m[2]] if m[1] else html.escape(values[m[2]]), template)


_NAVIGATION = (("/", "Docs"), ("/chat", "Chat"), ("/status", "Status"))
_LOGO = (
    '<svg class="logo" viewBox="0 0 24 24" aria-hidden="true">'
    '<path class="pipe" d="M4 21h8M8 21v-8.5a5 5 0 0 1 5-5h.5a3.5 3.5 0 0 1 3.5 3.5v1M10.5 3.5h5M13 3.5v4"/>'
    '<path class="water" d="M17 14.6c1.5 2 2.2 3.2 2.2 4.2a2.2 2.2 0 0 1-4.4 0c0-1 .7-2.2 2.2-4.2z"/></svg>'
)


_TITLES = {403: "Forbidden", 404: "Page not found", 405: "Not supported", 429: "Too many requests", 503: "At capacity"}

_STATE = (
    '<p class="state" id="state"><span class="dot"></span> <span data-model></span> <span data-line></span> '
    '<a href="/status">Status</a></p>'
)
"""Where the documentation's script tells how the server is now."""


class Pages:
    """The routes of everything that is there to be looked at, each page as the facts are when it is asked for."""

    def __init__(self, settings: Settings, address: str, fleet: Fleet, board: Board) -> None:
        """`address` is where people reach this server unless the settings say. Raises SettingsError."""
        self._settings = settings
        self._address = (settings.public_url or address).rstrip("/")
        self._fleet = fleet
        self._board = board
        self.paths: tuple[str, ...] = ()
        """All that is served, for the description of the API: to be set once it is known."""
        try:
            self._links = links(settings.links)
        except ValueError as error:
            raise SettingsError(f"links: {error}") from error
        wrong = next((word for word in settings.frame_ancestors if not _FRAME_ANCESTOR.fullmatch(word)), None)
        if wrong is not None:
            raise SettingsError(
                f"frame_ancestors: {wrong!r} is not none, self, * or an origin such as https://example.org"
            )
        # One sheet for each page: what all have, its own, and the operator's colour.
        colours = theme.css(settings.accent)
        sheets = {
            f"{sheet}.css": Content(
                (colours + "".join(text(f"css/{name}.css") for name in ("base", "code", sheet))).encode(), "css"
            )
            for sheet in ("chat", "docs", "status")
        }
        self._assets = Assets({**files("js"), **files("vendor"), **sheets})

    def _facts(self) -> Facts:
        return Facts(self._settings, self._address, self._fleet.resolve(None), self._links)

    def routes(self) -> dict[str, Route]:
        """Paths of pages, of their twins in Markdown, and of what browsers and programs look for."""
        made = {
            "/": (self._index, "html"),
            "/index.md": (self._index_twin, "md"),
            "/chat": (self._chat, "html"),
            "/preview": (lambda _: preview.page(), "html"),
            "/manifest.webmanifest": (self._manifest, "webmanifest"),
            "/privacy": (self._privacy, "html"),
            "/privacy.md": (self._privacy_twin, "md"),
            "/llms.txt": (self._llms, "txt"),
            "/openapi.json": (self._openapi, "json"),
        }
        routes = {
            path: Route({"GET": Made(make, kind, self._facts, self._headers(path, kind))})
            for path, (make, kind) in made.items()
        }
        routes["/status"] = Route({"GET": self._status})
        routes["/status.md"] = Route({"GET": self._status_twin})
        routes["/api/status"] = Route({"GET": self._board.get_status})
        routes["/api/status/events"] = Route({"GET": self._board.get_events})
        for name, content in files("files").items():
            routes[f"/{name.removeprefix('files/')}"] = Route({"GET": File(content)})
        routes["/assets/*"] = Route({"GET": self._assets})
        return routes

    def _headers(self, path: str, kind: str) -> tuple[Header, ...]:
        if kind != "html":
            return (FRESH,)
        if path == "/preview":
            return (
                FRESH,
                (b"content-security-policy", preview.policy(_frames(self._settings)).encode()),
            )
        if path == "/chat":
            return page_headers(self._settings, _CHAT, microphone="(self)")  # to dictate
        return page_headers(self._settings)

    def fail(self, failure: Failure, exchange: Exchange) -> None:
        """Answer people, whose browser asked for something that is not there or does not work, with a page."""
        values = {
            "title": _TITLES.get(failure.status, "Something went wrong"),
            "message": "There is no page at this address." if failure.status == 404 else failure.message,
            "status": str(failure.status),
            "id": exchange.id,
        }
        page = self.shell(
            self._facts(), exchange.request.path, "docs", title=f"{values['title']} · {self._settings.name}",
            description=values["message"], body=_fill(text("pages/failure.html"), values), twin="/index.md",
        )  # fmt: skip
        content = _rooted(page, "../" * (exchange.request.path.count("/") - 1) or "./").encode()
        headers = (*failure_headers(failure), *page_headers(self._settings))
        exchange.send(failure.status, content, b"text/html; charset=utf-8", headers)

    def shell(self, facts: Facts, path: str, sheet: str, *, title: str, description: str, body: str, twin: str) -> str:
        """A page in the frame that all pages but the chat have."""
        here = [
            f'<a href="{link}"{" aria-current=page" if link == path else ""}>{label}</a>' for link, label in _NAVIGATION
        ]
        values = {
            **self._values(facts, path, sheet, title, description),
            "nav": "".join(here),
            "body": body,
            "twin": twin,
            "links": " ".join(
                f'<a href="{html.escape(link.url)}">{html.escape(link.label)}</a>' for link in facts.links
            ),
            "preload": self._preload(sheet),
        }
        return _fill(text("pages/shell.html"), values)

    def _values(self, facts: Facts, path: str, sheet: str, title: str, description: str) -> dict[str, str]:
        values = {
            "sheet": sheet,
            "name": facts.name,
            "address": facts.address,
            "version": __version__,
            "assets": self._assets.prefix,
            "logo": _LOGO,
            "path": path,
            "title": title,
            "description": description,
        }
        return {**values, "head": _fill(text("pages/head.html"), values)}

    def _document(self, facts: Facts, path: str, source: str, description: str) -> str:
        document = documents.to_html(text(source), words(facts))
        entries = "".join(f'<li><a href="#{name}">{html.escape(title)}</a></li>' for name, title in document.contents)
        contents = f'<details class="contents" open><summary>On this page</summary><ol>{entries}</ol></details>'
        content = document.body.replace("</p>", f"</p>{_STATE}", 1) if path == "/" else document.body
        body = (
            f'<div class="page"><nav aria-label="On this page">{contents}</nav>'
            f'<main id="content" class="prose">{content}</main></div>'
        )
        title = document.title if path == "/" else f"{document.title} · {facts.name}"
        twin = "/index.md" if path == "/" else f"{path}.md"
        return _rooted(self.shell(facts, path, "docs", title=title, description=description, body=body, twin=twin))

    def _index(self, facts: Facts) -> str:
        return self._document(facts, "/", "pages/index.md", summary(facts))

    def _index_twin(self, facts: Facts) -> str:
        return documents.to_markdown(text("pages/index.md"), words(facts))

    def _privacy(self, facts: Facts) -> str:
        return self._document(
            facts, "/privacy", "pages/privacy.md", f"What {facts.name} stores about you, and what it does not."
        )

    def _privacy_twin(self, facts: Facts) -> str:
        return documents.to_markdown(text("pages/privacy.md"), words(facts))

    async def _status(self, exchange: Exchange) -> None:
        exchange.common = CLOSED
        facts = self._facts()
        page = self.shell(
            facts,
            "/status",
            "status",
            title=f"Status · {facts.name}",
            description=f"Whether {facts.name} is up, how long the queue is, and how the last hour went.",
            body=_fill(text("pages/status.html"), status.places(self._board.status())),
            twin="/status.md",
        )
        Content(_rooted(page).encode(), "html").send(exchange, *page_headers(self._settings))

    async def _status_twin(self, exchange: Exchange) -> None:
        Content(status.to_markdown(self._board.status()).encode(), "md").send(exchange, FRESH)

    def _llms(self, facts: Facts) -> str:
        return documents.fill(text("pages/llms.txt"), words(facts))

    def _openapi(self, facts: Facts) -> str:
        samples = documents.samples(text("pages/index.md"), words(facts))
        return msgspec.json.encode(openapi.document(facts, self.paths, samples.__getitem__)).decode()

    def _chat(self, facts: Facts) -> str:
        values = self._values(facts, "/chat", "chat", f"Chat · {facts.name}", summary(facts))
        more = {"welcome": facts.settings.welcome, "preload": self._preload("chat")}
        return _rooted(_fill(text("pages/chat.html"), values | more))

    def _manifest(self, facts: Facts) -> str:
        """What a browser needs to install the chat like a program."""
        icons = [
            {"src": "favicon.svg", "sizes": "any", "type": "image/svg+xml"},
            {"src": "apple-touch-icon.png", "sizes": "180x180", "type": "image/png"},
        ]
        manifest = {
            "name": facts.name,
            "short_name": facts.name,
            "description": summary(facts),
            "id": "chat",
            "start_url": "chat",
            "scope": "./",
            "display": "standalone",
            "icons": icons,
        }
        return msgspec.json.encode(manifest).decode()

    def _preload(self, script: str) -> str:
        """What a page's script imports, told at once, so that it is not found out one file after the other."""
        names = modules(f"js/{script}/main.js")
        return "".join(f'<link rel="modulepreload" href="{self._assets.prefix}/{name}">\n' for name in names)
