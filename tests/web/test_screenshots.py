"""Every page as a picture for eyes, at two widths, light and dark, in artifacts/; nothing reaches beyond the window."""

from __future__ import annotations

import pytest

from tests.web.conftest import ARTIFACTS

ANSWER = """A **standpipe** is a public water tap in the street:

1. Water comes from the main under *pressure*.
2. The valve `opens`, and it flows.

| drink | origin | caffeine |
|---|---|--:|
| Tea | China | 47 mg |
| Coffee | Ethiopia | 95 mg |

```python
def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))
```

The flow is \\(Q = A v\\).
"""


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def framed(request, visit, echo):
    width, scheme = request.param
    one = visit(echo, viewport={"width": width, "height": 900}, color_scheme=scheme)

    def shoot(name, *, whole=False):
        ARTIFACTS.mkdir(exist_ok=True)
        one.page.screenshot(path=ARTIFACTS / f"{name}-{width}-{scheme}.png", full_page=whole)
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width

    return one, shoot


def test_every_page_is_drawn(framed):
    one, shoot = framed
    for path, name in (("/", "documentation"), ("/status", "status"), ("/privacy", "privacy")):
        one.open(path)
        one.page.wait_for_timeout(300)
        shoot(name, whole=True)
    page = one.open("/chat")
    shoot("chat-empty")
    answer = one.ask(ANSWER)
    answer.locator(".hljs-keyword").first.wait_for()
    answer.locator("math").first.wait_for()
    shoot("chat-answer")
    page.click("[aria-label=API]")
    page.locator("#copy-as-code").wait_for()
    shoot("chat-api")
    page.click("[aria-label=Close]")
    page.click("[aria-label=Settings]")
    page.locator("#parameter-temperature").wait_for()
    shoot("chat-settings")
    page.click("[aria-label=Close]")
    page.click("text=Shortcuts")
    page.locator("#dialog[open]").wait_for()
    shoot("chat-keys")
