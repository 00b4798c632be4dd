"""LangChain's own suite for chat models, for its three packages before a running server (`HOUSE`)."""

import os
from typing import ClassVar

from langchain_anthropic import ChatAnthropic
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

HOUSE = os.environ["HOUSE"]


class TestOpenAI(ChatModelIntegrationTests):
    chat_model_class = ChatOpenAI
    chat_model_params: ClassVar = {"base_url": f"{HOUSE}/v1", "api_key": "any", "model": "player", "stream_usage": True}


class TestAnthropic(ChatModelIntegrationTests):
    chat_model_class = ChatAnthropic
    chat_model_params: ClassVar = {"base_url": HOUSE, "api_key": "any", "model": "player"}


class TestOllama(ChatModelIntegrationTests):
    chat_model_class = ChatOllama
    chat_model_params: ClassVar = {"base_url": HOUSE, "model": "player"}
    has_tool_choice = False
