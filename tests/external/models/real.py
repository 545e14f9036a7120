#!/usr/bin/env python3
"""Has llama.cpp's server, on a model of random numbers, plan and do objectives: its plans are hostile, and none may
make the command panic, hang, or run what is no plan.

usage: real.py PATH-OF-PLANDAG [--objectives N]
"""
from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# 0 done, 1 steps failed, 4 no usable plan: everything else is a fault of ours here.
ALLOWED = {0, 1, 4}


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    model = folder / "tiny.gguf"
    subprocess.run([sys.executable, str(HERE / "make_tiny_gguf.py"), str(model)], check=True, stdout=subprocess.DEVNULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(folder / "server.log", "w")
    line = [sys.executable, str(HERE / "serve.py"), str(model), "--port", str(port)]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True)
    for line in server.stdout:
        if ready := re.match(r"READY (\S+)", line):
            return server, ready[1]
    sys.exit("llama.cpp's server does not come up:\n" + (folder / "server.log").read_text()[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--objectives", type=int, default=10)
    arguments = parser.parse_args()
    command = str(Path(arguments.command).resolve())
    bad, seen = 0, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, base = serve(folder)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "OLLAMA", "PLANDAG"))}
        environment |= {"OPENAI_BASE_URL": base, "XDG_STATE_HOME": name, "XDG_CONFIG_HOME": name}

        def run(*line: str) -> subprocess.CompletedProcess:
            return subprocess.run([command, *line], env=environment, cwd=name, capture_output=True, text=True, timeout=120)

        try:
            doctor = run("doctor", "--model", "tiny-noise")
            if doctor.returncode != 0:
                bad += 1
                print("FAIL doctor", doctor.stderr)
            for number in range(arguments.objectives):
                for form in ("json", "lines"):
                    began = time.monotonic()
                    objective = f"Compare {number} and {number + 1} on price"
                    line = ["--model", "tiny-noise", "--plan-format", form, "--max-tokens", "60000", "--json"]
                    ran = run("run", objective, *line)
                    seen[form, ran.returncode] = seen.get((form, ran.returncode), 0) + 1
                    events = [json.loads(event) for event in ran.stdout.splitlines()]
                    ends = bool(events) and events[-1]["ev"] in ("run.finished", "run.stopped")
                    # 8: the limit on tokens, which noise may reach.
                    if ran.returncode not in ALLOWED | {8} or not ends or "panicked" in ran.stderr:
                        bad += 1
                        print(f"FAIL {form} {objective}: exit {ran.returncode}\n{ran.stdout[-800:]}\n{ran.stderr[-800:]}")
                    print(f"{form:6} exit {ran.returncode} in {time.monotonic() - began:.2f}s", flush=True)
                planned = run("plan", objective, "--model", "tiny-noise", "--plan-format", "json")
                if planned.returncode == 0:
                    (folder / "plan.json").write_text(planned.stdout)
                    checked = run("check", "plan.json")
                    # The steps name no tool, and `check` knows no model: that is all that may be missing.
                    if checked.returncode not in (0, 5):
                        bad += 1
                        print("FAIL a plan that was accepted cannot be run", planned.stdout, checked.stderr)
                elif planned.returncode != 4:
                    bad += 1
                    print(f"FAIL plan: exit {planned.returncode}\n{planned.stderr[-800:]}")
        finally:
            server.terminate()
    print(seen)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
