"""Anthropic's Messages.

* `request`: what is read, and the dialect of `/v1/messages`. Begin here
* `answer`: a whole message, and the blocks of a streamed one
* `wire`: the types of both directions
* `tools`: tools that the client runs and that have no schema of their own, as functions
* `faults`: failures in Anthropic's shape

Knows no other dialect, and nothing of headers.
"""
