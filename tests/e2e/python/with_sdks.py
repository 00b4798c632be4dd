"""The official packages: `openai` over both of its formats, `anthropic`, `ollama`, with the defaults that they have."""

import json

import anthropic
import ollama
import openai
from pydantic import BaseModel
from scenes import CALLS, HOUSE, NARROW, PACED, WORDS, at_once, error_of, me, play, words

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather in a city.", "parameters": SCHEMA}


class Weather(BaseModel):
    city: str
    degrees: float


class OpenAI:
    """Chat Completions. `turn` asks once: the text, how many calls there were, and tokens written."""

    def __init__(self, url=HOUSE, model=""):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
        self.model = model or me.plain
        self.said = [{"role": "user", "content": "Hello!"}]

    def turn(self, *, streamed=False, tools=False, **more):
        fields = {"model": self.model, "messages": self.said, **more}
        if tools:
            fields["tools"] = [{"type": "function", "function": FUNCTION}]
        if streamed:
            with self.client.chat.completions.stream(**fields, stream_options={"include_usage": True}) as stream:
                completion = stream.get_final_completion()
        else:
            completion = self.client.chat.completions.create(**fields)
        message = completion.choices[0].message
        calls = message.tool_calls or []
        self.said.append(message.model_dump(exclude_unset=True))
        self.said += [{"role": "tool", "tool_call_id": call.id, "content": "7 °C"} for call in calls]
        return message.content or "", len(calls), completion.usage.completion_tokens

    def structured(self):
        completion = self.client.chat.completions.parse(model=self.model, messages=self.said, response_format=Weather)
        return completion.choices[0].message.parsed


class Responses:
    def __init__(self, url=HOUSE, model=""):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
        self.model = model or me.plain
        self.said = [{"role": "user", "content": "Hello!"}]

    def turn(self, *, streamed=False, tools=False, **more):
        fields = {"model": self.model, "input": self.said, "store": False, **more}
        if tools:
            fields["tools"] = [{"type": "function", **FUNCTION}]
        if streamed:
            with self.client.responses.stream(**fields) as stream:
                response = stream.get_final_response()
        else:
            response = self.client.responses.create(**fields)
        calls = [item for item in response.output if item.type == "function_call"]
        self.said += response.output
        self.said += [{"type": "function_call_output", "call_id": call.call_id, "output": "7 °C"} for call in calls]
        return response.output_text, len(calls), response.usage.output_tokens

    def structured(self):
        return self.client.responses.parse(model=self.model, input=self.said, text_format=Weather).output_parsed


class Anthropic:
    def __init__(self, url=HOUSE, model=""):
        self.client = anthropic.Anthropic(base_url=url, api_key="any")
        self.model = model or me.plain
        self.said = [{"role": "user", "content": "Hello!"}]

    def turn(self, *, streamed=False, tools=False, **more):
        fields = {"model": self.model, "max_tokens": 500, "messages": self.said} | more
        if tools:
            fields["tools"] = [{"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}]
        if streamed:
            with self.client.messages.stream(**fields) as stream:
                message = stream.get_final_message()
        else:
            message = self.client.messages.create(**fields)
        calls = [block for block in message.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "7 °C"} for call in calls]
        self.said += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
        text = "".join(block.text for block in message.content if block.type == "text")
        return text, len(calls), message.usage.output_tokens

    def structured(self):
        message = self.client.messages.parse(
            model=self.model, max_tokens=500, messages=self.said, output_format=Weather
        )
        return message.parsed_output


class Ollama:
    def __init__(self, url=HOUSE, model=""):
        self.client = ollama.Client(url)
        self.model = model or me.plain
        self.said = [{"role": "user", "content": "Hello!"}]

    def turn(self, *, streamed=False, tools=False, **more):
        fields = {"model": self.model, "messages": self.said}
        if more:
            fields["options"] = more
        if tools:
            fields["tools"] = [{"type": "function", "function": FUNCTION}]
        parts = self.client.chat(**fields, stream=True) if streamed else [self.client.chat(**fields)]
        text, calls, count = "", [], 0
        for part in parts:
            text += part.message.content or ""
            calls += part.message.tool_calls or []
            count = part.eval_count or count
        self.said.append({"role": "assistant", "content": text, "tool_calls": calls})
        self.said += [{"role": "tool", "tool_name": call.function.name, "content": "7 °C"} for call in calls]
        return text, len(calls), count

    def structured(self):
        answer = self.client.chat(self.model, self.said, format=Weather.model_json_schema())
        return Weather.model_validate(json.loads(answer.message.content))


KINDS = {"openai": OpenAI, "responses": Responses, "anthropic": Anthropic, "ollama": Ollama}


def client(url=HOUSE, model=""):
    return KINDS[me.name.removeprefix("python-")](url, model)


def converse(one, *, streamed, tools=True):
    """The last text, and the calls until then."""
    calls = 0
    while True:
        text, more, _ = one.turn(streamed=streamed, tools=tools)
        if not more:
            return text, calls
        calls += more


def chat():
    text, calls, tokens = client().turn()
    assert (words(text), calls, tokens) == (WORDS, 0, 16)


def stream():
    assert client().turn(streamed=True) == client().turn()


def tools():
    for streamed in (False, True):
        text, calls = converse(client(), streamed=streamed)
        assert (words(text), calls) == (WORDS, CALLS)


def structured():
    assert isinstance(client().structured(), Weather)


def refused():
    wrong = {"anthropic": {"max_tokens": -1}, "ollama": {"stop": [""]}}
    wrong = wrong.get(me.name.removeprefix("python-"), {"temperature": -1.0})
    error = error_of(lambda: client().turn(**wrong))
    assert error.status_code == 400, repr(error)
    assert next(iter(wrong)) in str(error)


def retried():
    for url, name, count in ((PACED, me.plain, 3), (NARROW, me.slow, 3)):
        for text, _, _ in at_once(count, lambda url=url, name=name: client(url, name).turn()):
            assert words(text) == WORDS


def told():
    """A client that does not retry hears why."""

    def ask():
        try:
            return client(NARROW, me.slow).turn()
        except ollama.ResponseError as error:
            return error.status_code

    assert 503 in at_once(3, ask)


def waiting():
    for with_tools in (False, True):
        first, second = at_once(2, lambda tools=with_tools: converse(client(model=me.slow), streamed=True, tools=tools))
        assert first == second
        assert (words(first[0]), first[1]) == (WORDS, int(with_tools))


def slow():
    for text, _, _ in at_once(2, lambda: client(model=me.slow).turn()):
        assert words(text) == WORDS


def failed():
    error = error_of(lambda: client(model=me.broken).turn(streamed=True))
    # After Responses' own `response.failed` this package reads on, and finds the stream unfinished.
    assert me.name.endswith("responses") or "in the middle of an answer" in str(error), repr(error)


play(globals())
