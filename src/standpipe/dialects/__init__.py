"""Pure codecs between bytes and the vocabulary: one room per public format, and what all of them share beside them.

* `dialect`: what a dialect is, as the rest of the house sees it: parse, encoder, answer, failure. Begin here
* `reading`: JSON to typed requests, and every fault to a sentence that names its field
* `bounds`: ranges, counts and names as types, and the measure of schemas: what every wire type is made of
* `asks`: typed requests to asks, as far as all formats do it alike: tools, their choice, schemas, what was said
* `images`, `image_header`: from base64 to an image within bounds, and which of them an engine is shown
* `framing`: server-sent events and newline-delimited JSON, cut and written at any split
* `engine_output`: what engines and models put out, made fit for every format
* `text_pieces`: stop strings and characters across the pieces in which text comes
* `schema_cost`, `pattern`: what a JSON Schema costs an engine that enforces it, and where that is too much
* `schema_grammar`, `gbnf`: a JSON Schema as a grammar for llama.cpp
* `openai/` (with `responses/` inside), `anthropic/`, `ollama/`, `harmony/`: one format each

In the siblings the same name is the same role: `request` reads what a client sends, `answer` writes what it gets,
`wire` has the types of both, `faults` has failures; `to_engine` and `from_engine` are the same format towards an
engine. Siblings never import each other (import-linter holds it). No I/O, no clock, no randomness: ids and times come
in as arguments.
"""
