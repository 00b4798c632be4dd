"""The preview: the page in which the chat shows HTML that a model wrote, in a frame.

It has an origin of its own, which is nobody's, and its policy lets one script run, by its hash: the one that puts the
text there. Scripts in the text do not run and nothing is fetched; the chat's policy frames our pages alone, so a link
leads nowhere. Knows no other page.
"""

from __future__ import annotations

import base64
import hashlib

from standpipe.site.assets import text

_PAGE = '<!doctype html><html><head><meta charset="utf-8"><title>Preview</title><script>{}</script></head></html>\n'
_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors {}"
)


def page() -> str:
    """The page: nothing but its script."""
    return _PAGE.format(text("js/text/preview.js"))


def policy(frames: str) -> str:
    """Its policy. `frames` are those who may show the chat in a frame, beside itself; empty means nobody."""
    script = base64.b64encode(hashlib.sha256(text("js/text/preview.js").encode()).digest()).decode()
    return _POLICY.format(script, f"'self' {frames}".strip())
