"""Standpipe turns one model into a free, keyless, public chat API that stays fair, safe and up.

The rooms, from the values inside to the shell outside; each has its own map. Begin with docs/design.md.

chat         the vocabulary: asks, events, failures                 flow         backpressure, as one protocol
dialects     codecs for the public formats                          policy       decisions: rate limit, queue, retries
edge         the HTTP server                                        http_client  the HTTP client
engines      whatever generates answers                             models       model files: catalog, download, fit
store        what is remembered between requests                    observe      log, metrics, history
serve        the path of a request                                  site         pages, and the status
terminal     what people see in a terminal                          workers      several processes as one server
keeper       one line for many workers                              app          composition; nothing imports it
cli          the command `standpipe`                                control      the operator's socket
asgi         Standpipe inside another ASGI server
settings     the one table of settings                      configuration  their values: flags, variables, file
engine_tables  [[engine]] tables of the settings file
"""

__version__ = "0.1.0"
