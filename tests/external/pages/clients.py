"""Clients that never read: what a thousand of them cost a run, and the server.

usage: clients.py PLANDAG

A run of sleeps is started from the server alternately with nobody and with a thousand clients looking at it, who open
its stream of events and never read. The run's own clock says what that changes.
"""

import http.client
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS, ROUNDS, LAYERS, WIDTH, SLEEP_MS = 1_000, 5, 20, 10, 100
# Sleeps are a timer's, and two cores are shared with whatever else runs: the figure is printed, and only what cannot be
# noise fails.
MOST = 1.25

command = str(Path(sys.argv[1]).resolve())
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)


def plan():
    steps = []
    for layer in range(LAYERS):
        before = [f"s{layer - 1}-{i}" for i in range(WIDTH)] if layer else []
        for i in range(WIDTH):
            steps.append({"id": f"s{layer}-{i}", "tool": "sleep", "args": {"ms": SLEEP_MS}, "depends_on": before})
    return {"objective": "sleep", "steps": steps}


class Server:
    def __init__(self, folder):
        arguments = [command, "serve", "--port", "0", "--json", "--offline", "--journal", str(folder / "runs.db")]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = json.loads(self.process.stdout.readline())
        self.address, self.token = said["address"], said["token"]

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        content = json.load(answer)
        connection.close()
        assert answer.status < 300, content
        return content

    def look_away(self, run):
        """A client that asks for events and never reads any."""
        host, port = self.address.rsplit(":", 1)
        client = socket.create_connection((host, int(port)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(
            f"GET /api/runs/{run}/events HTTP/1.1\r\nHost: {self.address}\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )
        return client

    def run(self, clients):
        run = self.ask("POST", "/api/runs", {"plan": plan()})["run"]
        looking = [self.look_away(run) for _ in range(clients)]
        while True:
            time.sleep(0.5)
            shown = next(one for one in self.ask("GET", "/api/runs")["runs"] if one["run"] == run)
            if shown["status"] != "running":
                break
        assert shown["status"] == "succeeded", shown
        for client in looking:
            client.close()
        return shown["ms"]

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


def main():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            alone, watched = [], []
            for _ in range(ROUNDS):
                alone.append(server.run(0))
                watched.append(server.run(CLIENTS))
            ratio = statistics.median(watched) / statistics.median(alone)
            print(f"a run of {LAYERS * WIDTH} steps: {statistics.median(alone)} ms alone,", end=" ")
            print(f"{statistics.median(watched)} ms with {CLIENTS} clients that never read", end=" ")
            print(f"(ratio {ratio:.3f}); the server took at most {server.memory()} MiB")
            assert ratio < MOST, (alone, watched)
        finally:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
