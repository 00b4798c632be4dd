"""Estimates that calibrate themselves: bytes to tokens, tokens to seconds.

Pure and forgetful: each keeps a few exponentially weighted averages, fed by what engines report, and gives a guess for
the next ask. Knows no tokenizer, no model, no engine.

Theory. How many bytes one token takes depends on what is written more than on who tokenizes it, so text is sorted into
three kinds (`TextKind`) and each has its own rate. A report corrects the rates by multiplication, each in proportion to
its part of the guess, so they stay positive and a mixed prompt teaches every kind a little. What is charged early is
guessed *low* by the usual error, so that settlements go up: a charge that is missing is made good in full, one too much
sometimes can't be given back. Speeds are ratios of two averages (seconds by tokens), so long answers count for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from math import exp, log

import msgspec
from msgspec import Struct

from standpipe.chat.ask import Ask, Image, Message, Text, ToolCall

_SAMPLE = 2048
"""Characters of a text that are looked at to tell its kind."""

_TOKEN_PIXELS, _IMAGE_TOKENS = 750, 1600
"""Pixels of an image for one token, and the most tokens: what is larger is made smaller before it is looked at."""

_PROSE = 0.9
"""The part of letters, spaces and common marks above which ASCII text is prose."""

_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,'?!"
_BEYOND_ASCII = bytes(range(0x80, 0x100))


class TextKind(StrEnum):
    """What a text is mostly made of, as far as tokenizers care."""

    PROSE = "prose"
    CODE = "code"
    """ASCII with many digits, marks or line breaks: code, tables, JSON."""
    WIDE = "wide"
    """Anything with many characters outside of ASCII."""


class Sizes(Struct, frozen=True):
    """A prompt: bytes of each kind, as UTF-8, the number of messages, each of which a template wraps in tokens, and the
    tokens that images are by their pixels (`image_tokens`)."""

    prose: int = 0
    code: int = 0
    wide: int = 0
    messages: int = 0
    images: int = 0

    @classmethod
    def of(cls, texts: Iterable[str], images: Iterable[Image] = ()) -> Sizes:
        """Measure a prompt: one text per message, and what is shown."""
        prose = code = wide = messages = 0
        for text in texts:
            messages += 1
            size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            made_of = text_kind(text)
            if made_of is TextKind.PROSE:
                prose += size
            elif made_of is TextKind.CODE:
                code += size
            else:
                wide += size
        return cls(prose, code, wide, messages, sum(map(image_tokens, images)))


def image_tokens(image: Image) -> int:
    """How many tokens an image is, by Anthropic's published rule: one for each 750 pixels, at most 1,600."""
    return min(max(1, image.width * image.height // _TOKEN_PIXELS), _IMAGE_TOKENS)


def texts(ask: Ask) -> Iterator[str]:
    """All that a model has to read of an ask: a text for each message, and one for each tool."""
    read = map(_text, ask.messages)
    return chain(read, (msgspec.json.encode(tool).decode() for tool in ask.tools)) if ask.tools else read


def _text(message: Message) -> str:
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text:
        return parts[0].text
    return "".join(
        part.arguments if isinstance(part, ToolCall) else part.text for part in parts if not isinstance(part, Image)
    )


def text_kind(text: str) -> TextKind:
    """What a text is mostly made of, judged by its beginning."""
    sample = text[:_SAMPLE]
    length = len(sample)
    encoded = sample.encode("utf-8", "surrogatepass")
    wide = length - len(encoded.translate(None, _BEYOND_ASCII)) if len(encoded) > length else 0
    if wide > length / 4:
        return TextKind.WIDE
    # A few characters beyond ASCII are the letters of a language that has some.
    plain = wide + len(encoded) - len(encoded.translate(None, _PLAIN))
    return TextKind.PROSE if plain >= _PROSE * length else TextKind.CODE


class Prompts:
    """Guesses the tokens of a prompt from its sizes. Begins with rates that are usual for today's tokenizers."""

    __slots__ = ("_error", "_gain", "_rates")

    def __init__(self, gain: float = 0.05) -> None:
        """`gain` is how much one report counts, from 0 (not at all) to 1 (it alone)."""
        self._gain = gain
        self._rates = (0.22, 0.33, 0.35, 4.0, 1.0)
        """Tokens per byte of prose, of code and of wide text, per message, and per token that an image is by rule."""
        self._error = 0.2
        """The usual error of a guess, as a part of it."""

    def guess(self, sizes: Sizes) -> float:
        """The most likely number of tokens."""
        prose, code, wide, message, image = self._rates
        text = prose * sizes.prose + code * sizes.code + wide * sizes.wide
        return text + message * sizes.messages + image * sizes.images

    def low(self, sizes: Sizes) -> int:
        """A number that is seldom too high: what to charge until the engine has counted."""
        return int(self.guess(sizes) * (1 - min(0.5, 1.25 * self._error)))

    def learn(self, sizes: Sizes, prompt_tokens: int) -> None:
        """The engine counted this prompt. 0 tokens teach nothing."""
        guess = self.guess(sizes)
        if not guess or prompt_tokens <= 0:
            return
        ratio = min(4.0, max(0.25, prompt_tokens / guess))
        self._error += self._gain * (abs(ratio - 1) - self._error)
        prose, code, wide, message, image = self._rates
        power = self._gain / guess
        self._rates = (
            prose * ratio ** (power * prose * sizes.prose) if sizes.prose else prose,
            code * ratio ** (power * code * sizes.code) if sizes.code else code,
            wide * ratio ** (power * wide * sizes.wide) if sizes.wide else wide,
            message * ratio ** (power * message * sizes.messages),
            image * ratio ** (power * image * sizes.images) if sizes.images else image,
        )

    def __repr__(self) -> str:
        prose, code, wide, message, image = self._rates
        per_byte = f"{prose:.3f} {code:.3f} {wide:.3f} tokens per byte"
        return f"<Prompts {per_byte}, {message:.1f} per message, images by {image:.2f}>"


class Measured(Struct, frozen=True):
    """Seconds per prompt token read and per output token written; tokens and seconds of the usual ask."""

    prompt_seconds: float
    output_seconds: float
    output_tokens: float
    answer_seconds: float


class Speed:
    """How fast an engine is, and how long its answers are. Nothing is known before the first whole answer."""

    __slots__ = ("_gain", "_means", "measured")

    def __init__(self, gain: float = 0.05) -> None:
        self._gain = gain
        self._means: tuple[float, float, float, float] | None = None
        """Of first-token seconds, prompt tokens, seconds of writing, tokens written."""
        self.measured: Measured | None = None

    def learn(self, prompt_tokens: int, first_seconds: float, output_tokens: int, output_seconds: float) -> None:
        """One ask has run: tokens read until the first token came, and tokens written from then on."""
        gain, read = self._gain, max(1, prompt_tokens)
        first, prompt, seconds, output = self._means or (first_seconds, read, output_seconds, output_tokens)
        first += gain * (first_seconds - first)
        prompt += gain * (read - prompt)
        seconds += gain * (output_seconds - seconds)
        output += gain * (output_tokens - output)
        self._means = first, prompt, seconds, output
        self.measured = Measured(first / prompt, seconds / max(output, 1.0), output, first + seconds)

    def __repr__(self) -> str:
        return f"<Speed {self.measured}>"


class Bias:
    """How much longer than predicted waits have been: predictions know who waits, not who is still to come."""

    __slots__ = ("_gain", "_log")

    def __init__(self, gain: float = 0.02) -> None:
        self._gain = gain
        self._log = 0.0

    @property
    def factor(self) -> float:
        """By which to multiply a prediction."""
        return exp(self._log)

    def learn(self, predicted: float, waited: float) -> None:
        """One wait is over. Both in seconds; a prediction of none can't be scaled and teaches nothing."""
        if predicted > 0:
            self._log += self._gain * (log(min(8.0, max(0.125, waited / predicted))) - self._log)

    def __repr__(self) -> str:
        return f"<Bias {self.factor:.2f}>"
