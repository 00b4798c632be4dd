"""OpenAI's Responses: items in, items out, and a stream that tells each of their changes.

* `request`: what is read, and the dialect of `/v1/responses`. Begin here
* `items`: the items of the input, to messages
* `answer`: the output while it grows, its stream, and the whole response in which it ends
* `kept`: what is kept of a response, and how what was kept joins the next ask
* `wire`: the types of both directions
* `tools`: tools that the client runs and that are no functions: as functions, and their calls back

Takes from Chat Completions only how failures are written.
"""
