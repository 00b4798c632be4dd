"""Harmony, the format of gpt-oss: what is sent to such a model, and how what it writes is read.

* `markup`: control tokens, cutting a stream at them, reading a header.
* `calls`: arguments and names of tool calls, mended.
* `body`: what becomes of each message of a turn.
* `parser`: the streaming parser, from text to events. Begin here.
* `stripped`: turns whose control tokens were dropped, restored.
* `raw`: events of an engine that hands Harmony over as it is.
* `filter`: events of an engine that reads Harmony itself and sometimes leaks it.
* `prompt`: the other direction, messages and grammars for a gpt-oss.

Pure. It must not know engines, sinks, other dialects, or any clock.
"""
