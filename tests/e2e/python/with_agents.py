"""OpenAI's Agents SDK for Python, over Chat Completions and over Responses."""

import asyncio

from openai import AsyncOpenAI, BadRequestError
from pydantic import BaseModel
from scenes import CALLS, HOUSE, NARROW, PACED, WORDS, error_of, me, play, words

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

set_tracing_disabled(disabled=True)
asked = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "7 °C"


class Weather(BaseModel):
    city: str
    degrees: float


def agent(name=None, url=HOUSE, **more):
    kind = OpenAIResponsesModel if me.name.endswith("responses") else OpenAIChatCompletionsModel
    model = kind(name or me.plain, AsyncOpenAI(base_url=f"{url}/v1", api_key="any"))
    return Agent("Weather", instructions="Be brief.", model=model, **more)


async def run(one, *, streamed=False):
    if not streamed:
        return await Runner.run(one, "Hello!", max_turns=30)
    result = Runner.run_streamed(one, "Hello!", max_turns=30)
    async for _ in result.stream_events():
        pass
    return result


def at_once(count, ask):
    async def all_of_them():
        return await asyncio.gather(*(ask() for _ in range(count)))

    return asyncio.run(all_of_them())


def chat():
    result = asyncio.run(run(agent()))
    assert words(result.final_output) == WORDS
    assert result.context_wrapper.usage.output_tokens == 16


def stream():
    settings = ModelSettings(include_usage=True)
    result = asyncio.run(run(agent(model_settings=settings), streamed=True))
    assert result.final_output == asyncio.run(run(agent())).final_output
    assert result.context_wrapper.usage.output_tokens == 16


def tools():
    for streamed in (False, True):
        asked.clear()
        result = asyncio.run(run(agent(tools=[get_weather]), streamed=streamed))
        assert (words(result.final_output), len(asked)) == (WORDS, CALLS)


def structured():
    for streamed in (False, True):
        assert isinstance(asyncio.run(run(agent(output_type=Weather), streamed=streamed)).final_output, Weather)


def refused():
    error = error_of(lambda: asyncio.run(run(agent(model_settings=ModelSettings(temperature=-1.0)))))
    assert isinstance(error, BadRequestError)
    assert error.param == "temperature"


def retried():
    for url, name, count in ((PACED, me.plain, 3), (NARROW, me.slow, 3)):
        for result in at_once(count, lambda url=url, name=name: run(agent(name, url))):
            assert words(result.final_output) == WORDS


def waiting():
    for given in ([], [get_weather]):
        asked.clear()
        for result in at_once(2, lambda given=given: run(agent(me.slow, tools=given), streamed=True)):
            assert words(result.final_output) == WORDS
        assert len(asked) == 2 * len(given)


def slow():
    for result in at_once(2, lambda: run(agent(me.slow))):
        assert words(result.final_output) == WORDS


def failed():
    error = error_of(lambda: asyncio.run(run(agent(me.broken), streamed=True)))
    assert "in the middle of an answer" in str(error), repr(error)


play(globals())
