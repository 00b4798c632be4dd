"""Coding agents in long sessions: `python -m tests.agents [NAME...] [--calls N]`.

Each unmodified agent works in a folder of its own against `standpipe serve`, before an engine that plays the model
(`player`). It prints, for each, the calls that were made, the HTTP statuses that Standpipe gave, and the time; it ends
with status 1 when a session did not come to its end. Loopback only: telemetry and updates are off by environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.agents.player import MODEL, Call, Json, Player, filled, serving
from tests.e2e.conftest import Server

HERE = Path(__file__).parent
BIN = HERE / "node" / "node_modules" / ".bin"
MCP = [sys.executable, str(HERE / "mcp_server.py")]
"""A server with forty tools."""
WINDOW = 120_000
LIMIT = {"context": WINDOW, "output": 8_192}
"""Tokens. Codex and opencode shorten a conversation in time only by the window that they are told of."""
PATIENCE = 900
"""Seconds for one session."""
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63606060f80f00010401005fe5c34b0000000049454e44ae426082"
)
"""A PNG of one pixel."""
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1", "IS_SANDBOX": "1", "OTEL_SDK_DISABLED": "true", "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_SHARE": "1",
}  # fmt: skip


def shell(word: str) -> Call:
    def arguments(name: str, schema: Json) -> Json:
        kind = (schema.get("properties") or {}).get("command", {}).get("type")
        line = f"echo {word}"
        return filled(
            schema, command=["bash", "-c", line] if kind == "array" else line, cmd=line, description="Says it"
        )

    return Call(("Bash", "bash", "exec_command", "shell_command", "shell", "local_shell"), arguments)


def read(path: Path) -> Call:
    return Call(
        ("Read", "read", "Bash", "exec_command", "shell_command", "shell"),
        lambda name, schema: (
            filled(schema, file_path=str(path), filePath=str(path))
            if name.lower() == "read"
            else shell(f"; cat {path}").arguments(name, schema)
        ),
    )


def patch(number: int) -> Call:
    text = f"*** Begin Patch\n*** Add File: new_{number}.txt\n+Line {number}\n*** End Patch\n"
    return Call(("apply_patch",), lambda _, schema: filled(schema, input=text, patch=text))


def look_up(number: int) -> Call:
    tool = f"look_up_{number % 40}"
    return Call((f"mcp__dictionaries__{tool}", f"dictionaries_{tool}"), lambda _, schema: filled(schema, word="water"))


def calls(name: str, count: int, files: Sequence[Path], image: Path) -> list[Call]:
    """What the model of this agent calls."""
    found = []
    for number in range(count):
        match number % 5:
            case 0:
                found.append(read(files[number % len(files)]))
            case 2 if number == 7 and "codex" not in name:
                found.append(read(image))
            case 1 | 2:
                found.append(patch(number) if name == "codex" else look_up(number))
            case _:
                found.append(shell(f"call {number}"))
    return found


def codex(url: str, home: Path, work: Path, model: str = "gpt-5.5") -> list[str]:
    """A name that Codex knows brings `apply_patch`, and hides the tools of MCP servers behind a search of its own."""
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(
        f'model = "{model}"\nmodel_context_window = {WINDOW}\n'
        'model_provider = "standpipe"\ncheck_for_update_on_startup = false\n'
        f'[model_providers.standpipe]\nname = "Standpipe"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
        "[analytics]\nenabled = false\n"
        f"[mcp_servers.dictionaries]\ncommand = {json.dumps(MCP[0])}\nargs = {json.dumps(MCP[1:])}\n"
    )
    skip = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json"]
    return [str(BIN / "codex"), "exec", *skip, "-C", str(work), "Do all the work."]


def codex_mcp(url: str, home: Path, work: Path) -> list[str]:
    """A name that it does not know brings the tools of MCP servers, and no `apply_patch`."""
    return codex(url, home, work, MODEL)


def claude(url: str, home: Path, work: Path) -> list[str]:
    servers = {"dictionaries": {"command": MCP[0], "args": MCP[1:]}}
    (home / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    tools = ["--mcp-config", str(home / "mcp.json"), "--dangerously-skip-permissions"]
    return [str(BIN / "claude"), "-p", "Do all the work.", *tools, "--output-format", "stream-json", "--verbose"]


def opencode(url: str, home: Path, work: Path) -> list[str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Standpipe",
        "models": {MODEL: {"name": MODEL, "limit": LIMIT}},
    }
    provider["options"] = {"baseURL": f"{url}/v1", "apiKey": "any"}
    mcp = {"dictionaries": {"type": "local", "command": MCP}}
    settings = {"provider": {"standpipe": provider}, "mcp": mcp, "permission": "allow", "share": "disabled"}
    (work / "opencode.json").write_text(json.dumps(settings))
    return [str(BIN / "opencode"), "run", "--model", f"standpipe/{MODEL}", "Do all the work."]


AGENTS = {"codex": codex, "codex-mcp": codex_mcp, "claude": claude, "opencode": opencode}


def session(name: str, count: int, context: int) -> bool:
    """One agent's session. Gives whether it came to its end."""
    with tempfile.TemporaryDirectory() as folder:
        home, work = Path(folder) / "home", Path(folder) / "work"
        home.mkdir()
        work.mkdir()
        files = [work / f"file_{number}.txt" for number in range(10)]
        for number, path in enumerate(files):
            path.write_text("".join(f"{number}.{line:05d} " + "word " * 17 + "\n" for line in range(1000)))
        image = work / "picture.png"
        image.write_bytes(PIXEL)
        player = Player(calls(name, count, files, image), context)
        with serving(player, context) as engine, Server("--engine", engine, "--pace-interval", "0") as server:
            command = AGENTS[name](server.url, home, work)
            there = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_AUTH_TOKEN": "any", "ANTHROPIC_MODEL": MODEL}
            environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **QUIET, **there}
            begun = time.monotonic()
            try:
                done = subprocess.run(
                    command, cwd=work, env=environment, stdin=subprocess.DEVNULL,
                    capture_output=True, text=True, timeout=PATIENCE, check=False,
                )  # fmt: skip
                said, status = done.stdout + done.stderr, str(done.returncode)
            except subprocess.TimeoutExpired as late:
                said, status = str(late.stdout)[-2000:], "none: it hung"
            seconds = time.monotonic() - begun
        answers = [json.loads(line) for line in server.lines if '"status"' in line]
        statuses = Counter(answer["status"] for answer in answers)
        made = Counter(filter(None, player.called))
        whole = status == "0" and len(player.called) == count and not player.missing and "All calls are done" in said
        print(f"{name}: {'whole' if whole else 'BROKEN'}, status {status}, {seconds:.0f} s")
        print(f"  calls {sum(made.values())} of {count}: {dict(made)}; not declared: {dict(player.missing)}")
        print(f"  HTTP {dict(statuses)}; longest request {player.longest} tokens; asides {player.asides}")
        if not whole:
            print(said[-3000:])
            print("".join(line for line in server.lines if '"status":200' not in line)[-3000:])
        return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/agents", description="Coding agents in long sessions.")
    parser.add_argument("agent", nargs="*", help=f"which: {', '.join(AGENTS)}; all by default")
    parser.add_argument("--calls", type=int, default=100, help="tool calls of a session")
    parser.add_argument("--context", type=int, default=128_000, help="tokens that the model takes")
    given = parser.parse_args()
    if not BIN.exists():
        subprocess.run([shutil.which("npm") or "npm", "ci", "--no-audit", "--no-fund"], cwd=HERE / "node", check=True)
    broken = [name for name in given.agent or AGENTS if not session(name, given.calls, given.context)]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
