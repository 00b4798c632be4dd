from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.errors import (
    ContextTooLong,
    EngineDown,
    EngineFailed,
    Failure,
    ImagesRefused,
    InvalidAsk,
    TooLarge,
    Unsupported,
)
from standpipe.dialects.ollama.answer import failure_body
from standpipe.dialects.openai.faults import (
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    failure_from,
    failure_in_stream,
    renamed,
)


def llama(message: str, code: int | str = 400, **fields: Any) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message, "type": "invalid_request_error", **fields}})


def vllm(message: str) -> bytes:
    return msgspec.json.encode({"object": "error", "message": message, "type": "BadRequestError", "code": 400})


LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4990 in the messages, "
    "10 in the completion). Please reduce the length of the messages or completion."
)


@pytest.mark.parametrize(
    "body",
    [
        llama(
            "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=5000,
            n_ctx=4096,
        ),
        llama("the request exceeds the available context size, try increasing it", n_ctx=4096),
        vllm(LONG),
        llama(LONG, code="context_length_exceeded"),
        b"Input length (5000 tokens) exceeds the maximum allowed length (4096 tokens).",
    ],
)
def test_a_prompt_beyond_the_context_is_named_with_the_limit(body):
    failure = failure_from(400, body)
    assert type(failure) is ContextTooLong
    assert (failure.code, failure.param, failure.status) == ("context_length_exceeded", "messages", 400)
    assert "4096" in failure.message


TIER = failure_body(ContextTooLong.of(33003, 2048), "r")
"""As a Standpipe below answers in Ollama's format, which has no codes."""


@pytest.mark.parametrize("body", [TIER, b"%s", b'{"error":"%s"}'], ids=["guessed", "counted", "counted, Ollama"])
def test_what_one_standpipe_says_of_a_prompt_another_understands(body):
    own = failure_from(400, vllm(LONG)).message.encode()
    failure = failure_from(400, body.replace(b"%s", own))
    assert type(failure) is ContextTooLong
    numbers = ("33003", "2048") if body is TIER else ("4990", "4096")
    assert all(number in failure.message for number in numbers)


def test_a_schema_that_llama_cpp_python_takes_for_its_own_error_is_one_that_it_cannot_enforce():
    body = llama(
        "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input "
        "should be 'text' or 'json_object'\", 'input': 'json_schema'}"
    )
    failure = failure_from(500, body)
    assert (type(failure), failure.param) == (Unsupported, "response_format")


def test_what_one_standpipe_says_of_a_schema_another_understands():
    body = b'{"error":"`format.type` cannot be enforced: the types are object, array, string."}'
    failure = failure_from(400, body)
    assert (type(failure), failure.param) == (Unsupported, "response_format")


def test_both_numbers_are_told_where_the_engine_tells_them():
    body = llama("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it")
    failure = failure_from(400, body)
    assert isinstance(failure, ContextTooLong)
    assert (failure.tokens, failure.window) == (5000, 4096)
    assert failure.message.startswith("This model's maximum context length is 4096 tokens. However, there are 5000")


@pytest.mark.parametrize(
    "body",
    [
        b"{\"detail\":\"Server is pinned to '/models/smollm2'; requested 'other'.\"}",
        llama(
            "/chat/completions: Invalid model name passed in model=other. Call `/v1/models` to view available models"
        ),
    ],
    ids=["transformers serve", "LiteLLM"],
)
def test_a_model_that_an_engine_does_not_have_is_no_fault_of_the_client(body):
    failure = failure_from(400, body)
    assert type(failure) is EngineFailed
    assert "/models/" not in failure.message


def test_the_limit_need_not_be_told():
    assert type(failure_from(400, b'{"error":"prompt too long"}')) is ContextTooLong


@pytest.mark.parametrize(
    ("status", "body", "kind", "param"),
    [
        (400, llama("Conversation roles must alternate user/assistant/user/assistant/..."), InvalidAsk, "messages"),
        (400, llama("Cannot continue an assistant message that contains tool calls."), InvalidAsk, "messages"),
        (400, b'{"error":{"message":"registry.ollama.ai/x does not support tools"}}', Unsupported, "tools"),
        (400, vllm('"auto" tool choice requires --enable-auto-tool-choice'), Unsupported, "tools"),
        (400, llama("failed to parse grammar"), Unsupported, "response_format"),
        (422, b'{"detail":"Invalid json_schema"}', Unsupported, "response_format"),
        (400, vllm("Requested sample logprobs of 5, which is greater than max allowed"), Unsupported, "logprobs"),
        (400, vllm("token_id(s) [99] in logit_bias contain out-of-vocab token ids"), InvalidAsk, "logit_bias"),
        (400, b'{"error":"\\"m\\" does not support thinking"}', Unsupported, "reasoning_effort"),
        (400, vllm("max_tokens must be at least 1, got 0."), InvalidAsk, "max_tokens"),
        (
            400,
            vllm("'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens"),
            InvalidAsk,
            "max_tokens",
        ),
        (400, llama("image input is not supported"), ImagesRefused, "messages"),
        (400, llama("Failed to load image or audio file"), ImagesRefused, "messages"),
        (500, llama("image input is not supported - hint: provide the mmproj", 500), ImagesRefused, "messages"),
        (500, b'{"error":"failed to process inputs: image: unknown format"}', ImagesRefused, "messages"),
        (500, b'{"error":"Internal Server Error: cannot identify image file <_io>"}', ImagesRefused, "messages"),
        (500, llama("Failed to parse tool call arguments as JSON: [json.exception]", 500), InvalidAsk, "messages"),
        (500, llama("Unexpected empty grammar stack after accepting piece: x", 500), Unsupported, "response_format"),
        (
            500,
            llama("Message has tool role, but there was no previous assistant message with a tool call!", 500),
            InvalidAsk,
            "messages",
        ),
        (500, llama("\n------------\nWhile executing CallExpression at line 8, column 3", 500), InvalidAsk, "messages"),
        (413, b"", TooLarge, "messages"),
        (500, llama("JSON schema error at #: unrecognized type wizard", 500), Unsupported, None),
        (
            400,
            llama("Unable to generate parser for this template. Automatic parser generation failed: JSON schema error"),
            Unsupported,
            None,
        ),
        (400, llama("Cannot have 2 or more assistant messages at the end of the list."), InvalidAsk, "messages"),
        (
            400,
            llama("Unable to generate parser for this template. While executing {{ raise_exception('x') }}"),
            InvalidAsk,
            "messages",
        ),
        (400, b"", InvalidAsk, None),
        (400, b"<html>no</html>", InvalidAsk, None),
        (422, b"[1, 2]", InvalidAsk, None),
    ],
)
def test_a_clients_fault_is_told_from_an_engines(status, body, kind, param):
    failure = failure_from(status, body)
    assert (type(failure), failure.param) == (kind, param)
    assert not failure.may_retry


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 409, 429, 500, 501, 502, 503, 504, 599])
def test_any_other_status_is_the_engines_failure_and_is_kept(status):
    failure = failure_from(status, b'{"error":{"message":"no"}}')
    assert isinstance(failure, EngineFailed)
    assert failure.upstream_status == status
    assert failure.may_retry


@pytest.mark.parametrize("message", ["Loading model", "The model is still loading, try again"])
def test_an_engine_that_loads_its_model_is_down_for_now(message):
    assert type(failure_from(503, llama(message, 503))) is EngineDown


@pytest.mark.parametrize(
    "message",
    [
        "Context size has been exceeded.",
        "The model produced output that does not match the expected peg-native format",
        'Failed to parse input at pos 12: {"json_schema": "tool call arguments as JSON, image input is not supported"}',
    ],
)
def test_what_the_model_wrote_or_the_pool_lacked_is_not_the_clients_fault(message):
    failure = failure_from(500, llama(message, 500))
    assert isinstance(failure, EngineFailed)
    assert failure.upstream_status == 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        (None, None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_only_seconds_count_as_a_time_to_come_back(header, seconds):
    assert failure_from(503, b"", header).retry_after == seconds


SECRET = "http://10.1.2.3:8000/srv/models"


@settings(deadline=None)
@given(
    st.sampled_from([400, 401, 404, 413, 422, 429, 500, 503]),
    st.sampled_from(["{}", "context length {}", "tools {}", "grammar {}", "While executing x at {}", "max_tokens {}"]),
    st.sampled_from([llama, vllm, str.encode, lambda m: msgspec.json.encode({"error": m})]),
)
def test_no_word_of_an_engine_gets_out(status, text, shape):
    for failure in (failure_from(status, shape(text.format(SECRET))), failure_in_stream(shape(text.format(SECRET)))):
        assert "10.1" not in failure.message
        assert "srv" not in failure.message
        assert "http" not in failure.message


@settings(deadline=None)
@given(
    st.integers(400, 599), st.binary(max_size=30) | st.sampled_from([b'{"error":' + b"[" * 50_000, b'{"error":null}'])
)
def test_any_body_means_something(status, body):
    assert failure_from(status, body).message
    assert failure_in_stream(body).message


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
