"""Real MCP servers: one plan with their tools, what they give, and that none of them is left behind.

usage: servers.py PLANDAG FOLDER
FOLDER is where the servers are installed: bin/mcp-server-time, and with npm node_modules/.bin/mcp-server-*.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

command, installed = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
# Every process that a server starts has this in its environment, so that those that are left can be found.
MARK = f"plandag-external-{os.getpid()}"


def left():
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            pass
    return found


def gone():
    for _ in range(100):
        if not left():
            return
        time.sleep(0.1)
    raise SystemExit(f"left behind: {left()}")


def main():
    folder = Path(tempfile.mkdtemp())
    (folder / "docs").mkdir()
    (folder / "docs" / "a.txt").write_text("a line in a file\n")
    env = {"MARK": MARK, "EXTERNAL_TOKEN": "canary-5ecret"}
    program = lambda name, *args, **more: {"command": str(installed / name), "args": list(args), "env": env, **more}
    servers = {"time": program("bin/mcp-server-time", trust=True)}
    steps = [
        {"id": "now", "tool": "time.get_current_time", "args": {"timezone": "Europe/Oslo"}},
        {"id": "later", "tool": "time.convert_time", "args": {
            "source_timezone": "Europe/Oslo", "time": "12:00", "target_timezone": "UTC"}},
        {"id": "wrong", "tool": "time.get_current_time", "args": {"timezone": "Nowhere/At_All"}, "on_failure": "continue"},
    ]
    if (installed / "node_modules/.bin/mcp-server-everything").exists():
        servers["everything"] = program("node_modules/.bin/mcp-server-everything")
        servers["files"] = program("node_modules/.bin/mcp-server-filesystem", str(folder / "docs"), trust=True)
        steps += [
            {"id": "sum", "tool": "everything.get-sum", "args": {"a": 2, "b": 40}},
            {"id": "env", "tool": "everything.get-env", "args": {}},
            {"id": "slow", "tool": "everything.trigger-long-running-operation", "args": {"duration": 1, "steps": 4}},
            {"id": "read", "tool": "files.read_text_file", "args": {"path": str(folder / "docs" / "a.txt")}},
            {"id": "outside", "tool": "files.read_text_file", "args": {"path": "/etc/passwd"}, "on_failure": "continue"},
            # It acts, on what a file says: nobody is asked here, so it waits.
            {"id": "echo", "tool": "everything.echo", "args": {"message": "${read.text}"}},
        ]
    else:
        print("no npm servers here: only mcp-server-time")
    (folder / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    (folder / "plan.json").write_text(json.dumps({"steps": steps}))

    def run(*more):
        arguments = [command, "run", folder / "plan.json", "--mcp", folder / "servers.json", "--json", *more]
        done = subprocess.run(arguments, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert "canary" not in done.stdout + done.stderr, "a secret came back"
        return done, json.loads(done.stdout.splitlines()[-1])

    if "everything" in servers:
        done, last = run()
        assert done.returncode == 9, done.stderr + done.stdout
        assert "`echo` waits for approval" in json.dumps(last["error"]), last
        gone()
    done, last = run(*(["--allow", "everything.*"] if "everything" in servers else []))
    assert done.returncode == 0, done.stderr + done.stdout
    answer = last["answer"]
    assert "Europe/Oslo" in answer["now"]["text"], answer
    assert answer["wrong"] is None, answer
    if "everything" in servers:
        assert "42" in answer["sum"]["text"] and "a line in a file" in answer["echo"]["text"], answer
        assert answer["outside"] is None, answer
    gone()

    # Killed in the middle, the command leaves nothing behind either.
    (folder / "plan.json").write_text(json.dumps({"steps": [{"id": "wait", "tool": "sleep", "args": {"ms": 60000}}]}))
    killed = subprocess.Popen(
        [command, "run", folder / "plan.json", "--mcp", folder / "servers.json"],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if len(left()) >= len(servers):
            break
        time.sleep(0.1)
    assert left(), "the servers were started"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    gone()
    print(f"{len(servers)} servers, {len(steps)} steps: as they should be, and nothing is left behind")


main()
