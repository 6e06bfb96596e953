"""A web API as they are: limited in rate, silent now and then, with rows that are on two pages.

`FlakyApi()` starts it as a process of its own, because an API outlives the kernels that call it.
What it has is Seattle's weather of four years (NOAA, public domain). Nothing here knows of
nbdurable.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

DAYS_PER_PAGE = 30
# New rows push older ones on, and so the last ones of a page come again on the next.
DAYS_TWICE = 3
REQUESTS_PER_SECOND = 20
ANSWER_SECONDS = 0.15
SILENT_SECONDS = 5


class FlakyApi:
    """The API, while this process lives."""

    def __init__(self):
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(  # noqa: S603 - this file.
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Interrupting the kernel is not meant for it.
        )
        self.url = self._process.stdout.readline().strip()

    def log(self):
        """What it was asked, and how it answered."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:  # noqa: S310 - its own address.
            return json.load(answer)


class _Faults:
    """How to answer: as a real one would, and the same in every run."""

    def __init__(self):
        self.log = []
        self._recent = deque()
        self._asked = set()
        self._lock = Lock()

    def status_of(self, page):
        now = time.monotonic()
        with self._lock:
            while self._recent and now - self._recent[0] > 1:
                self._recent.popleft()
            if len(self._recent) >= REQUESTS_PER_SECOND:
                status = "429 Too Many Requests"
            elif page % 9 == 0 and page not in self._asked:
                status = "no answer"
                self._asked.add(page)
            else:
                status = "200 OK"
            if status != "429 Too Many Requests":
                self._recent.append(now)
            self.log.append({"page": page, "status": status})
        return status


class _Answers(BaseHTTPRequestHandler):
    rows = ()
    faults = _Faults()

    def do_GET(self):
        """Either of two paths: /days?page=1 and /log."""
        asked = urlsplit(self.path)
        if asked.path == "/log":
            self._send(200, self.faults.log)
            return
        page = int(parse_qs(asked.query)["page"][0])
        status = self.faults.status_of(page)
        if status.startswith("429"):
            self._send(429, {"error": "slow down"}, {"Retry-After": "1"})
            return
        if status == "no answer":
            time.sleep(SILENT_SECONDS)
            return
        time.sleep(ANSWER_SECONDS)
        first = (page - 1) * (DAYS_PER_PAGE - DAYS_TWICE)
        self._send(200, {"days": self.rows[first : first + DAYS_PER_PAGE]})

    def _send(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, said in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, said)
        with suppress(ConnectionError):  # Whoever has asked may have been killed.
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: the log is asked for."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # With the five of the standard library some could not even connect.


def main():
    """Serve until whoever started it is gone."""
    from vega_datasets import data

    days = data.seattle_weather()
    days["date"] = days["date"].dt.strftime("%Y-%m-%d")
    _Answers.rows = days.to_dict("records")
    server = _Server(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - FlakyApi reads it.
    sys.stdin.read()


if __name__ == "__main__":
    main()
