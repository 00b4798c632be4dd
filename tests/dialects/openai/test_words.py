import pytest

from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure, InvalidAsk, Unsupported
from standpipe.dialects.openai.faults import failure_from
from standpipe.dialects.openai.words import COMPLETIONS, EMBEDDINGS, RESPONSES, renamed

CONTEXT = ContextTooLong("`messages` do not fit.", param="messages")


@pytest.mark.parametrize(
    ("words", "failure", "param", "message"),
    [
        (RESPONSES, CONTEXT, "input", "`input` do not fit."),
        (COMPLETIONS, CONTEXT, "prompt", "`prompt` do not fit."),
        (EMBEDDINGS, CONTEXT, "input", "`input` do not fit."),
        (
            RESPONSES,
            InvalidAsk("`max_tokens` and `messages`.", param="max_tokens"),
            "max_output_tokens",
            "`max_output_tokens` and `input`.",
        ),
        (
            RESPONSES,
            Unsupported("No `reasoning_effort`.", param="reasoning_effort"),
            "reasoning.effort",
            "No `reasoning.effort`.",
        ),
        (COMPLETIONS, InvalidAsk("`max_tokens` is more.", param="max_tokens"), "max_tokens", "`max_tokens` is more."),
    ],
)
def test_a_field_of_a_chat_is_called_what_it_is_called_here(words, failure, param, message):
    said = renamed(words, failure)
    assert (said.param, said.message, type(said)) == (param, message, type(failure))


@pytest.mark.parametrize(
    "failure", [InvalidAsk("`input` is missing.", param="input"), EngineFailed("It broke off."), Failure("x")]
)
def test_what_names_no_such_field_stays_as_it_is(failure):
    assert renamed(RESPONSES, failure) is failure


def test_every_field_that_an_engine_can_find_fault_with_has_a_word():
    for text in (
        "failed to parse grammar",
        "max_tokens must be less",
        "reasoning is not supported",
        "image",
        "logprobs",
    ):
        param = renamed(RESPONSES, failure_from(400, text.encode())).param
        assert param in RESPONSES.values(), text
