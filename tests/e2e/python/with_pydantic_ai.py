"""Pydantic AI, over OpenAI's two formats."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from scenes import CALLS, HOUSE, NARROW, PACED, WORDS, error_of, me, play, words

asked = []


def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "7 °C"


class Weather(BaseModel):
    city: str
    degrees: float


def agent(name=None, url=HOUSE, **more):
    kind = OpenAIResponsesModel if me.name.endswith("responses") else OpenAIChatModel
    return Agent(kind(name or me.plain, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="any")), **more)


async def streamed(one):
    async with one.run_stream("Hello!") as result:
        return await result.get_output(), result


def at_once(count, ask):
    async def all_of_them():
        return await asyncio.gather(*(ask() for _ in range(count)))

    return asyncio.run(all_of_them())


def chat():
    result = asyncio.run(agent().run("Hello!"))
    assert words(result.output) == WORDS
    assert result.usage.output_tokens == 16, result.usage


def stream():
    text, result = asyncio.run(streamed(agent()))
    assert text == asyncio.run(agent().run("Hello!")).output
    assert result.usage.output_tokens == 16, result.usage


def tools():
    asked.clear()
    assert words(asyncio.run(agent(tools=[get_weather]).run("Hello!")).output) == WORDS
    assert len(asked) == CALLS
    text, _ = asyncio.run(streamed(agent(tools=[get_weather])))
    assert words(text) == WORDS
    assert len(asked) == 2 * CALLS


def structured():
    for kind in (NativeOutput, ToolOutput):
        assert isinstance(asyncio.run(agent(output_type=kind(Weather)).run("Weather?")).output, Weather)


def refused():
    error = error_of(lambda: asyncio.run(agent(model_settings={"temperature": -1.0}).run("Hello!")))
    assert isinstance(error, ModelHTTPError)
    assert (error.status_code, error.body["param"]) == (400, "temperature")


def retried():
    for url, name, count in ((PACED, me.plain, 3), (NARROW, me.slow, 3)):
        for result in at_once(count, lambda url=url, name=name: agent(name, url).run("Hello!")):
            assert words(result.output) == WORDS


def waiting():
    for given in ([], [get_weather]):
        asked.clear()
        for text, _ in at_once(2, lambda given=given: streamed(agent(me.slow, tools=given))):
            assert words(text) == WORDS
        assert len(asked) == 2 * len(given)


def slow():
    for result in at_once(2, lambda: agent(me.slow).run("Hello!")):
        assert words(result.output) == WORDS


def failed():
    error = error_of(lambda: asyncio.run(streamed(agent(me.broken))))
    # After Responses' own `response.failed` it reads on, and finds the stream unfinished.
    assert me.name.endswith("responses") or "in the middle of an answer" in str(error), repr(error)


play(globals())
