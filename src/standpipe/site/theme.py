"""Theme: the operator's one colour, made readable on both papers.

A colour is taken towards black for the light page and towards white for the dark one until text in it has the contrast
that WCAG AA asks of text (4.5 to 1) against the page, and against the tint that lies under chosen things. Formulas are
those of WCAG 2.2, "relative luminance" and "contrast ratio".
"""

from __future__ import annotations

Colour = tuple[int, int, int]

LIGHT_PAPER: Colour = (0xF4, 0xF6, 0xF8)
DARK_PAPER: Colour = (0x1B, 0x22, 0x26)
"""The backgrounds of text in the accent, at their worst: the sunken and the raised one of base.css."""

ENOUGH = 4.5
_TINT = 0.14
"""A little more of the accent than the page's tints hold, for text in the accent on its own tint."""
_STEPS = 50


def read(text: str) -> Colour:
    """From `#rrggbb`."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def contrast(one: Colour, other: Colour) -> float:
    """From 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(colour: Colour, paper: Colour) -> Colour:
    """The nearest mix of a colour with black or white that is readable on a paper."""
    end = (0, 0, 0) if _luminance(paper) > 0.5 else (255, 255, 255)
    for step in range(_STEPS + 1):
        mixed = mix(colour, end, step / _STEPS)
        if contrast(mixed, mix(paper, mixed, _TINT)) >= ENOUGH:
            return mixed
    return end


def css(accent: str) -> str:
    """The style sheet that sets the accents of base.css."""
    colour = read(accent)
    light, dark = readable(colour, LIGHT_PAPER), readable(colour, DARK_PAPER)
    return f":root {{ --accent-light: {_hex(light)}; --accent-dark: {_hex(dark)}; }}\n"


def mix(one: Colour, other: Colour, part: float) -> Colour:
    """A colour of which `part` is the other one."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (_linear(value / 255) for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
