"""The web site: everything that is there to be looked at, for people and for programs.

Begin with `pages.py`. It asks the server how it is (`serve`, `engines.fleet`, `observe`) and changes nothing. It must
not know sockets, nor how a request is answered.

pages.py       the routes, and pages put together from templates and facts
facts.py       what pages say about this server, as values and as sentences
documents.py   Markdown to HTML, and samples of code in tabs
assets.py      files of the package, with their headers; scripts and styles under a name that never changes
preview.py     the page in which the chat shows HTML that a model wrote, and its policy
theme.py       the operator's colour, made readable
openapi.py     the description of the API
schemas.py     types to JSON Schemas, for it
status.py      how it is now and was in the last hour: /api, /api/status, the status page; what the admin listener says
"""
