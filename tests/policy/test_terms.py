import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text
from standpipe.policy.terms import clamp, join


def say(role: Role, text: str) -> Message:
    return Message(role, (Text(text),))


HELLO = say(Role.USER, "hello")
BARE = Ask((HELLO,))
OWN = Ask((say(Role.SYSTEM, "mine"), HELLO))


def test_prepend_puts_the_operators_words_first_in_one_message():
    assert join(BARE, "op", "prepend").messages == (say(Role.SYSTEM, "op"), HELLO)
    assert join(OWN, "op", "prepend").messages == (say(Role.SYSTEM, "op\n\nmine"), HELLO)
    assert join(OWN, "op", "prepend").operator_prompt == join(BARE, "op", "default").operator_prompt == "op"


def test_default_stays_out_when_the_client_has_words_of_its_own():
    assert join(BARE, "op", "default").messages == (say(Role.SYSTEM, "op"), HELLO)
    assert join(OWN, "op", "default") == OWN
    late = Ask((HELLO, say(Role.DEVELOPER, "late")))
    assert join(late, "op", "default") == late


@pytest.mark.parametrize(("prompt", "mode"), [("op", "off"), ("", "prepend"), ("", "default")])
def test_off_or_nothing_to_say_changes_nothing(prompt, mode):
    assert join(OWN, prompt, mode) == OWN


@pytest.mark.parametrize(("wanted", "given"), [(None, 100), (50, 50), (100, 100), (101, 100)])
def test_the_operators_cap_bounds_every_wish(wanted, given):
    ask = replace(BARE, sampling=Sampling(max_tokens=wanted, temperature=0.3))
    assert clamp(ask, 100).sampling == Sampling(max_tokens=given, temperature=0.3)
