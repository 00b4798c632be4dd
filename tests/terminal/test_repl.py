import io

import msgspec
import pytest
from rich.console import Console

from standpipe.terminal.repl import Refused, Screen


def shown(*frames: dict[str, object]) -> tuple[str, str]:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=200))
    for frame in frames:
        screen.show(msgspec.json.encode(frame))
    return out.getvalue(), screen.text


def delta(**fields: str) -> dict[str, object]:
    return {"choices": [{"delta": fields}]}


def test_text_is_shown_as_it_comes_and_kept():
    assert shown(delta(content="Hel"), delta(content="lo")) == ("Hello", "Hello")


def test_the_place_in_line_is_shown():
    out, text = shown({"choices": [], "queue": {"position": 3, "eta_seconds": 12.4}}, delta(content="x"))
    assert "position 3 in the queue, about 12 s" in out
    assert text == "x"


def test_a_models_words_are_neither_markup_nor_control_characters():
    out, _ = shown(delta(content="[red]\x1b[31mred\a[/red]\nnext"))
    assert out == "[red][31mred[/red]\nnext"


def test_an_error_frame_is_a_refusal():
    with pytest.raises(Refused, match="broke off"):
        shown({"error": {"message": "it broke off"}})
