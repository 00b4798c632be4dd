"""LangChain's chat models: langchain-openai over both of OpenAI's formats, langchain-anthropic, langchain-ollama."""

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from ollama import ResponseError
from pydantic import BaseModel
from scenes import CALLS, HOUSE, NARROW, PACED, WORDS, at_once, error_of, me, play, words

HELLO = [HumanMessage("Hello!")]


def model(name=None, url=HOUSE, **more):
    name = name or me.plain
    match me.name.removeprefix("langchain-"):
        case "openai":
            return ChatOpenAI(base_url=f"{url}/v1", api_key="any", model=name, stream_usage=True, **more)
        case "responses":
            return ChatOpenAI(base_url=f"{url}/v1", api_key="any", model=name, use_responses_api=True, **more)
        case "anthropic":
            return ChatAnthropic(base_url=url, api_key="any", model=name, **more)
        case "ollama":
            return ChatOllama(base_url=url, model=name, **more)
    raise ValueError(me.name)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return "7 °C"


class Weather(BaseModel):
    """The weather."""

    city: str
    degrees: float


def whole(llm, messages):
    return llm.invoke(messages)


def streamed(llm, messages):
    message = None
    for chunk in llm.stream(messages):
        message = chunk if message is None else message + chunk
    return message


def converse(llm, ask):
    """A conversation whose tools run here. Gives its last message and how many calls there were."""
    messages, calls = list(HELLO), 0
    while (message := ask(llm, messages)).tool_calls:
        assert message.type in {"ai", "AIMessageChunk"}, message.type
        messages.append(message)
        for call in message.tool_calls:
            calls += 1
            result = get_weather.invoke(call)
            assert isinstance(result, ToolMessage)
            messages.append(result)
    return message, calls


def chat():
    message = whole(model(), HELLO)
    assert words(message.text) == WORDS
    assert message.usage_metadata["output_tokens"] == 16, message.usage_metadata


def stream():
    message = streamed(model(), HELLO)
    assert message.text == whole(model(), HELLO).text
    assert message.usage_metadata["output_tokens"] == 16, message.usage_metadata


def tools():
    for ask in (whole, streamed):
        message, calls = converse(model().bind_tools([get_weather]), ask)
        assert (words(message.text), calls) == (WORDS, CALLS)


def structured():
    # langchain-ollama does not require the call that it needs, so the other way is the only sure one.
    for method in ("json_schema",) if me.name.endswith("ollama") else ("function_calling", "json_schema"):
        weather = model().with_structured_output(Weather, method=method).invoke("Weather?")
        assert isinstance(weather, Weather), method


def refused():
    wrong = {"stop": [""]} if me.name.endswith("ollama") else {"temperature": -1.0}
    error = error_of(lambda: model(**wrong).invoke(HELLO))
    assert error.status_code == 400
    assert next(iter(wrong)) in str(error)


def retried():
    for url, name, count in ((PACED, me.plain, 3), (NARROW, me.slow, 3)):
        llm = model(name, url)
        assert {words(message.text) for message in at_once(count, lambda llm=llm: llm.invoke(HELLO))} == {WORDS}


def told():
    """A client that does not retry hears why."""
    llm = model(me.slow, NARROW)

    def ask():
        try:
            return llm.invoke(HELLO)
        except ResponseError as error:
            return error.status_code

    assert 503 in at_once(3, ask)


def waiting():
    for llm in (model(me.slow), model(me.slow).bind_tools([get_weather])):
        (first, calls), second = at_once(2, lambda llm=llm: converse(llm, streamed))
        assert second[0].text == first.text
        assert second[1] == calls
        assert words(first.text) == WORDS


def slow():
    for message in at_once(2, lambda: model(me.slow).invoke(HELLO)):
        assert words(message.text) == WORDS


def failed():
    heard = []
    error_of(lambda: heard.extend(chunk.text for chunk in model(me.broken).stream(HELLO)))
    assert words("".join(heard)) == 6


play(globals())
