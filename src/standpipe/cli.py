"""The command line: serve, check, init, models, engines, top, chat. Parses words; every action lives elsewhere.

Heavy imports wait inside the commands, so that `standpipe --help` is quick and `chat` needs no server parts.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import msgspec

from standpipe import __version__
from standpipe.configuration import load
from standpipe.settings import Field, Settings, SettingsError, fields


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 well, 1 something is wrong, 2 the words were wrong, 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except SettingsError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _stop(message: str) -> NoReturn:
    print(f"standpipe: {message}", file=sys.stderr)
    sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="standpipe", description="One model as a free, keyless, public chat API, fair to strangers."
    )
    parser.add_argument("--version", action="version", version=f"standpipe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve the API", description="Serve the API until Ctrl-C.")
    serve.set_defaults(run=_serve)
    check = commands.add_parser(
        "check", help="check settings and engines", description="Check settings and engines, and explain what is wrong."
    )
    check.set_defaults(run=_check)
    for command, name in ((serve, "serve"), (check, "check")):
        command.usage = f"standpipe {name} [--config FILE] [--SETTING VALUE ...]"
        command.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
        for title, group in groupby(fields(), lambda field: field.group):
            section = command.add_argument_group(title)
            for field in group:
                _add_flag(section, field)

    init = commands.add_parser(
        "init", help="write a settings file", description="Write a TOML file that shows every setting and its default."
    )
    init.add_argument("file", nargs="?", default="standpipe.toml", help="where to write it; - prints it")
    init.set_defaults(run=_init)

    models = commands.add_parser(
        "models",
        help="list the model catalog",
        description="List the models that can be downloaded, and those that are.",
    )
    models.add_argument("--cache-dir", default="", help="where downloaded models are kept")
    models.set_defaults(run=_models)

    engines = commands.add_parser(
        "engines",
        help="show and change the engines of a running server",
        description="Show and change the engines of a server that runs on this machine. What waits and runs goes on. "
        "A change lasts until the server restarts; write it into the settings file, too, if it shall stay.",
        epilog="list shows them; add takes a URL as --engine does, or KEY=VALUE as in an [[engine]] table "
        "(url=http://gpu-b:8000/v1 name=gpu-b slots=8 models=a,b); drain gives one nothing new, resume ends that, "
        "remove drains one and lets go of it when it is empty. See docs/engines.md.",
    )
    engines.add_argument(
        "action", nargs="?", default="list", choices=["list", "add", "drain", "resume", "remove"], help="default: list"
    )
    engines.add_argument("words", nargs="*", metavar="ENGINE", help="its name; for add its URL, or KEY=VALUE ...")
    engines.add_argument("--json", action="store_true", help="print the engines as JSON")
    engines.add_argument(
        "--socket", type=Path, metavar="PATH", help="the server's control socket, where several servers run"
    )
    engines.set_defaults(run=_engines)

    top = commands.add_parser(
        "top", help="watch a server live", description="Watch a server live, through its admin listener."
    )
    top.add_argument("url", nargs="?", default="http://127.0.0.1:8081", help="address of the admin listener")
    top.add_argument("--once", action="store_true", help="print once and exit")
    top.set_defaults(run=_top)

    chat = commands.add_parser("chat", help="chat in the terminal", description="Chat over the public API.")
    chat.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="address of a Standpipe")
    chat.add_argument("--system", default="", help="a system prompt")
    chat.set_defaults(run=_chat)
    return parser


def _add_flag(section: argparse._ArgumentGroup, field: Field) -> None:
    default = " ".join(field.default) if field.many else field.default
    shown = f"; default {default}{field.unit and ' ' + field.unit}" if default not in {"", None} else ""
    options: dict[str, object] = {
        "dest": field.name,
        "help": f"{field.help} ({field.allowed}{shown})".replace("%", "%%"),
        "metavar": {int: "N", float: "SECONDS", str: "TEXT", bool: "BOOL"}.get(field.type, "VALUE"),
    }
    if field.many:
        options["action"] = "append"
    elif field.type is bool:
        options |= {"nargs": "?", "const": "true"}
    section.add_argument(field.flag, **options)  # type: ignore[arg-type] # built from the table, seen by its tests


def _settings(arguments: argparse.Namespace) -> Settings:
    flags = {field.name: getattr(arguments, field.name) for field in fields()}
    return load(flags, os.environ, arguments.config)


def _serve(arguments: argparse.Namespace) -> int:
    _settings(arguments)  # a wrong one is told before anything is loaded
    from standpipe.app.run import serve  # noqa: PLC0415

    return serve(partial(_settings, arguments))


def _check(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    from standpipe.app.check import check  # noqa: PLC0415

    return check(settings)


def _init(arguments: argparse.Namespace) -> int:
    if arguments.file == "-":
        print(template(), end="")
        return 0
    try:
        with Path(arguments.file).open("x", encoding="utf-8") as file:
            file.write(template())
    except OSError as error:
        print(f"standpipe: cannot write {arguments.file}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{arguments.file} shows every setting. Start with: standpipe serve --config {arguments.file}")
    return 0


def template() -> str:
    """A TOML file that sets nothing and shows everything: each setting with its help and its default."""
    lines = ["# Settings of Standpipe. What is commented out has its default; remove the `#` in front to change it."]
    group = ""
    for field in fields():
        if field.group != group:
            group = field.group
            lines += ["", f"# {group} ".ljust(100, "-")]
        unit = f" ({field.unit})" if field.unit else ""
        lines += [
            "",
            *textwrap.wrap(f"{field.help}{unit}; {field.allowed}", 98, initial_indent="# ", subsequent_indent="# "),
        ]
        lines.append(f"#{field.name} = {msgspec.json.encode(field.default).decode()}")
    lines += ["", *_ENGINE_SAMPLE.splitlines()]
    return "\n".join([*lines, ""])


_ENGINE_SAMPLE = """\
# An engine as a table, instead of a line of `engine`; see docs/engines.md. Tables stand at the end of the file.
# [[engine]]
# url = "http://gpu-a:8000/v1"
# name = "gpu-a"
# key_file = "/etc/standpipe/gpu-a.key"
# models = { "gpt-oss:latest" = "openai/gpt-oss-20b" }"""


def _models(arguments: argparse.Namespace) -> int:
    from standpipe.terminal import weights  # noqa: PLC0415

    return weights.show(arguments.cache_dir)


def _engines(arguments: argparse.Namespace) -> int:
    from standpipe.terminal import roll  # noqa: PLC0415

    return roll.run(arguments.action, arguments.words, arguments.socket, as_json=arguments.json)


def _top(arguments: argparse.Namespace) -> int:
    from standpipe.terminal import top  # noqa: PLC0415

    return top.run(arguments.url, once=arguments.once)


def _chat(arguments: argparse.Namespace) -> int:
    from standpipe.terminal import repl  # noqa: PLC0415

    return repl.run(arguments.url, arguments.system)
