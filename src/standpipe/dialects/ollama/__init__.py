"""Ollama's native format, towards clients and towards engines.

* `request`: what is read, and the dialects of `/api/chat` and `/api/generate`. Begin here
* `answer`: a whole answer, and the lines of a streamed one, in both shapes
* `wire`: the types of both directions, and the bodies of the paths on which clients look for models
* `to_engine`, `from_engine`: the same format towards a native Ollama

Knows no other dialect, and nothing of models but their names.
"""
