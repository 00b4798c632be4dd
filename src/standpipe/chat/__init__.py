"""The vocabulary: the frozen values that every other room speaks.

* `ask`: a request in our own words: messages, tools, sampling, what shape the answer must have; texts to embed
* `events`: what happens to an ask, in which order it may, and the whole answer that the events add up to
* `errors`: the one tree of failures, in words that strangers may read

Nothing here does I/O, reads a clock or knows a framework; nothing here knows a public API format. Begin with `ask`.
"""
