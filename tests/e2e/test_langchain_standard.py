"""LangChain's standard suite for chat models against a running server, before an engine that does what it is asked.

The suite runs by `python/with_langchain_standard.py`, in the environment of the other clients.
"""

from __future__ import annotations

import json
import os
import subprocess

from tests.agents.player import Json, Player, called, filled, serving
from tests.e2e import packages
from tests.e2e.conftest import Server

CONTEXT = 32_768


class Obliging(Player):
    """Calls the tool that it must call, or that was declared for a question nobody has answered; else it talks."""

    def turn(self, ask: Json) -> Json:
        tools = [tool["function"] for tool in ask.get("tools") or []]
        choice = ask.get("tool_choice")
        if isinstance(choice, dict):
            tools = [tool for tool in tools if tool["name"] == choice["function"]["name"]]
        if tools and choice != "none" and ask["messages"][-1]["role"] == "user":
            arguments = filled(tools[0].get("parameters") or {}, input=3, customer_name="你好 こんにちは")
            return called(tools[0]["name"], arguments, len(ask["messages"]))
        schema = (ask.get("response_format") or {}).get("json_schema", {}).get("schema")
        return {"content": json.dumps(filled(schema)) if schema else "Hello! All is well."}


def test_langchains_standard_suite():
    packages.python()
    with serving(Obliging([], CONTEXT), CONTEXT) as engine, Server("--engine", engine, "--pace-interval", "0") as house:
        done = subprocess.run(
            [packages.INTERPRETER, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider",
             "-o", "asyncio_mode=auto", str(packages.PYTHON / "with_langchain_standard.py")],
            cwd=packages.PYTHON, env={**os.environ, "HOUSE": house.url, "LANGSMITH_TRACING": "false"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
