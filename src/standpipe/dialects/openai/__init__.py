"""OpenAI's formats, towards clients and towards engines.

* `request`: Chat Completions as they are read, and the dialects of `/api` and `/v1/chat/completions`. Begin here
* `answer`: a whole completion, and the chunks of a streamed one
* `completions`, `embeddings`: the legacy format and vectors, both ways each
* `responses/`: the Responses format, which has types and a stream of its own
* `wire`: types of Chat Completions, what its siblings take from them, and lists of models
* `faults`: failures in OpenAI's shape: ours to a client, an engine's to ours
* `to_engine`: an ask to the body of a request to an engine
* `from_engine`: an engine's answer to events, of `engine_frames` as engines really send them, with `calls` put in order

Knows no other dialect, and nothing of who asks or who answers.
"""
