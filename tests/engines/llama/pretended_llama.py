"""A program that pretends to be the embedded engine's child, for tests of who keeps it up.

    python pretended_llama.py FOLDER

In FOLDER stands what it does: `script` has a line for each of its lives, further lives do as the last line says. It
appends what it is asked to `asked`, and what it was told to `told`.

    serve           be ready, answer; with a name behind it, on a GPU of that name
    exit N          end with that code instead of getting ready
    signal NAME     die of that signal instead of getting ready
    junk            print something that is no address
    deaf            be ready, but never say anything about slots
    forgetful       serve, but refuse to save or restore what a slot has read
    refusing        serve, but refuse every chat
    mute            serve, but never answer a chat
    fragile         serve, but crash at every chat
    talkative       serve, and log somebody's words

What a chat's last message says is done: `hello` answers, `hang` begins to answer and stops, `die` begins and crashes.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])


def note(name: str, line: str) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(line + "\n")


def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"model": "tiny:1", "choices": [choice]}).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def plain(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/slots" and MODE == "deaf":
            threading.Event().wait()
        self.plain(200, [])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note("asked", json.dumps([self.path, body, self.headers.get("Authorization")]))
        if "action=" in self.path:
            self.copy()
        elif MODE == "mute":
            threading.Event().wait()
        elif MODE == "fragile":
            os._exit(9)
        elif MODE == "refusing":
            self.plain(400, {"error": {"message": "no"}})
        else:
            self.chat([m["content"] for m in body["messages"] if m["role"] == "user"][-1])

    def copy(self) -> None:
        saved = Path(TOLD["folder"]) / "prompt"
        if MODE != "forgetful" and "save" in self.path:
            saved.write_text("saved")
        self.plain(200 if MODE != "forgetful" and saved.exists() else 400, {})

    def chat(self, said: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(chunk({"role": "assistant", "content": "Hel"}))
        if said == "hang":
            threading.Event().wait()
        if said == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
            threading.Event().wait()  # for the signal
        if MODE == "talkative":
            print("0.00.001 W srv: got exception: my secret words", file=sys.stderr)
            print("my secret words", file=sys.stderr)
            print("/src/ggml.c:12: GGML_ASSERT(n > 0) failed", file=sys.stderr, flush=True)
        self.wfile.write(chunk({"content": "lo."}) + chunk({}, "stop") + b"data: [DONE]\n\n")


class PortServer(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)


class SocketServer(PortServer):
    import socket

    address_family = socket.AF_UNIX


if __name__ == "__main__":
    told = sys.stdin.readline()
    note("told", told.strip())
    TOLD = json.loads(told)
    lives = len((FOLDER / "told").read_text().splitlines())
    script = (FOLDER / "script").read_text().splitlines()
    MODE, _, detail = script[min(lives, len(script)) - 1].partition(" ")
    print("0.00.001.002 I srv init: loading", file=sys.stderr, flush=True)
    match MODE:
        case "exit":
            print("0.00.002 E srv: cannot load it", file=sys.stderr, flush=True)
            sys.exit(int(detail))
        case "signal":
            os.kill(os.getpid(), signal.Signals[detail])
        case "junk":
            print("ready, I think", flush=True)
            sys.stdin.read()
    if TOLD["address"].startswith("/"):
        server: PortServer = SocketServer(TOLD["address"], Handler)
        address = "unix://" + TOLD["address"]
    else:
        server = PortServer((TOLD["address"], 0), Handler)
        address = "http://{}:{}".format(*server.socket.getsockname())
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    gpus = [detail] if detail and MODE == "serve" else []
    print(json.dumps({"address": address, "gpus": gpus}), flush=True)
    server.serve_forever()
