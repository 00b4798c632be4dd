"""A server of the Model Context Protocol on standard input and output, with forty tools that answer a few words."""

import json
import sys

TOOLS = [
    {
        "name": f"look_up_{number}",
        "description": f"Looks up the entry of a word in dictionary {number}.",
        "inputSchema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    }
    for number in range(40)
]

for line in sys.stdin:
    ask = json.loads(line)
    match ask.get("method"):
        case "initialize":
            version = ask["params"]["protocolVersion"]
            info = {"name": "dictionaries", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            result = {"tools": TOOLS}
        case "tools/call":
            result = {"content": [{"type": "text", "text": f"An entry of {ask['params']['name']}."}]}
        case _:
            result = {}
    if "id" in ask:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": result}) + "\n")
        sys.stdout.flush()
