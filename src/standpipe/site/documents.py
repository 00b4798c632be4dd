"""Documents: a page written in Markdown, to HTML for people and to plain Markdown for programs, from the same text.

`{{name}}` stands for a value of `words`. A fenced block whose info has a second word is a sample: `python openai` is
the sample `openai`, written in Python. Samples that follow each other are one group, which pages show as tabs where
scripts run and one below the other where not. A word `run:TEXT` lets the page ask TEXT for real. Knows no HTTP.

The libraries that render are loaded with the first page: most taps answer programs, and those megabytes are for nobody.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LABELS = {
    "curl": "curl",
    "requests": "Python",
    "openai": "Python openai",
    "fetch": "JavaScript",
    "stream": "JS stream",
    "ollama": "Ollama",
    "anthropic": "Anthropic",
    "responses": "Responses",
}
"""What a sample's tab is called. The chat page's `samples.js` has the same."""

_PLACE = re.compile(r"\{\{([a-z_]+)\}\}")
_SAMPLE = re.compile(r"^```(\w+) ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(\w+) ([^\n]+)$", re.MULTILINE)


class Document(Struct, frozen=True):
    """A page's content. `contents` are its second-level headings, as (id, text)."""

    title: str
    body: str
    contents: tuple[tuple[str, str], ...]


def fill(text: str, words: Mapping[str, str]) -> str:
    """Put values into their places. A place that has no value is a mistake of ours: KeyError."""
    return _PLACE.sub(lambda match: words[match[1]], text)


def to_markdown(text: str, words: Mapping[str, str]) -> str:
    """For programs: values in place, and the name of each sample in front of it."""
    return _FENCE.sub(_named_fence, fill(text, words))


def _named_fence(match: re.Match[str]) -> str:
    label = LABELS.get(match[2].split()[0])
    return f"{label}:\n\n```{match[1]}" if label else f"```{match[1]}"


def samples(text: str, words: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """The first sample of each name: its label, its language and its text."""
    found: dict[str, tuple[str, str, str]] = {}
    for language, info, code in _SAMPLE.findall(fill(text, words)):
        name = info.split()[0]
        found.setdefault(name, (LABELS[name], language, code))
    return found


def to_html(text: str, words: Mapping[str, str]) -> Document:
    """For people. Raw HTML in the text is shown as text."""
    tokens = _parser().parse(fill(text, words))
    contents: list[tuple[str, str]] = []
    title = ""
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            name = _slug(following.content)
            token.attrSet("id", name)
            if token.tag == "h1":
                title = following.content
            elif token.tag == "h2":
                contents.append((name, following.content))
    _label(tokens)
    return Document(title, "".join(_blocks(tokens)), tuple(contents))


def _label(tokens: Sequence[Token]) -> None:
    """Give each cell of a wide table the name of its column, for narrow pages that show a row as a block."""
    names: list[str] = []
    column = 0
    for token, following in pairwise(tokens):
        if token.type == "table_open":
            names = []
        elif token.type == "th_open":
            names.append(following.content)
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            if len(names) > 2 and column:
                token.attrSet("data-label", names[column])
            column += 1


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415  # see the module

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _blocks(tokens: Sequence[Token]) -> list[str]:
    """Runs of samples as groups, other code in its frame, and the rest as the parser renders it."""
    parser = _parser()
    made: list[str] = []
    plain: list[Token] = []
    group: list[Token] = []
    for token in [*tokens, None]:
        sample = token is not None and token.type == "fence" and " " in token.info.strip()
        if group and not sample:
            made.append(_group(group))
            group = []
        if plain and (token is None or token.type == "fence"):
            made.append(str(parser.renderer.render(plain, parser.options, {})))
            plain = []
        if token is None:
            break
        if sample:
            group.append(token)
        elif token.type == "fence":
            made.append(_frame(token.content, token.info.strip(), token.info.strip() or "text"))
        else:
            plain.append(token)
    return made


def _group(tokens: Sequence[Token]) -> str:
    parts, run = [], ""
    for token in tokens:
        language, name, *more = token.info.split()
        label = LABELS[name]
        parts.append(f'<section data-sample="{name}">{_frame(token.content, language, label)}</section>\n')
        run = next((word[4:] for word in more if word.startswith("run:")), run)
    asks = f' data-run="{html.escape(run)}"' if run else ""
    return f'<div class="samples"{asks}>\n{"".join(parts)}</div>\n'


def _frame(code: str, language: str, label: str) -> str:
    return (
        f'<div class="code"><div class="code-bar"><span>{html.escape(label)}</span>'
        '<button type="button" class="quiet small" data-copy>Copy</button></div>'
        f'<pre tabindex="0"><code>{coloured(code, language)}</code></pre></div>\n'
    )


def coloured(code: str, language: str) -> str:
    """Code as HTML whose spans have Pygments' short classes."""
    from pygments import highlight  # noqa: PLC0415  # see the module
    from pygments.formatters import HtmlFormatter  # noqa: PLC0415
    from pygments.lexers import get_lexer_by_name  # noqa: PLC0415
    from pygments.util import ClassNotFound  # noqa: PLC0415

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return html.escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
