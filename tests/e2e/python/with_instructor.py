"""instructor, which makes typed objects of answers, over the `openai` package: all that it does is structured."""

import instructor
from openai import OpenAI
from pydantic import BaseModel
from scenes import HOUSE, NARROW, PACED, at_once, me, play

HELLO = [{"role": "user", "content": "Weather?"}]


class Weather(BaseModel):
    city: str
    degrees: float


def client(mode=instructor.Mode.TOOLS, url=HOUSE):
    return instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="any"), mode=mode)


def create(name=None, url=HOUSE, mode=instructor.Mode.TOOLS):
    return client(mode, url).chat.completions.create(model=name or me.plain, messages=HELLO, response_model=Weather)


def structured():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
        assert isinstance(create(mode=mode), Weather), mode


def stream():
    parts = client().chat.completions.create_partial(model=me.plain, messages=HELLO, response_model=Weather)
    *_, last = parts
    assert last.city is not None
    assert last.degrees is not None


def chat():
    weather, completion = client().chat.completions.create_with_completion(
        model=me.plain, messages=HELLO, response_model=Weather
    )
    assert isinstance(weather, Weather)
    assert completion.usage.completion_tokens > 4


def retried():
    for url, name, count in ((PACED, me.plain, 3), (NARROW, me.slow, 3)):
        for weather in at_once(count, lambda url=url, name=name: create(name, url)):
            assert isinstance(weather, Weather)


def slow():
    for weather in at_once(2, lambda: create(me.slow)):
        assert isinstance(weather, Weather)


play(globals())
