"""Stand-ins for the demos: what costs money, takes time and fails, without a network or a key.

Every call that is charged for leaves a line on a bill, so that a notebook can show what was paid
twice. Nothing here knows of nbdurable.
"""

import json
import os
import signal
import subprocess
import time
import zlib
from pathlib import Path

from jupyter_client.manager import start_new_kernel

ORDERS = {
    f"A-{number}": {"paid": 20 + number * 7 % 90, "days_late": number % 6} for number in range(60)
}

COMPLAINTS = (
    "My parcel {order} is late. Where is it?",
    "{order} arrived broken, I want my money back.",
    "Thank you, {order} is just what I wanted!",
    "I was charged twice for {order}.",
    "Please cancel {order}, I ordered it by mistake.",
)


def tickets(count):
    """Mail from customers: `count` of it, always the same."""
    orders = list(ORDERS)
    return [
        {
            "id": f"T-{n}",
            "text": COMPLAINTS[n % len(COMPLAINTS)].format(order=orders[n % len(orders)]),
        }
        for n in range(count)
    ]


def look_up(order):
    """What the shop knows of an order."""
    return ORDERS[order]


class Bill:
    """A file with one line per call that was charged for. Kept by the other side, so to speak."""

    def __init__(self, path):
        self.path = Path(path)

    def charge(self, key, cents):
        """Charge for it, unless this key was charged before; then it costs nothing."""
        if any(line["key"] == key for line in self.lines()):
            return
        line = json.dumps({"key": key, "cents": cents}) + "\n"
        descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def lines(self):
        """What was charged, in order."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


class Model:
    """A language model. It takes its time, times out now and then, and charges for each answer.

    Args:
        bill: Where its charges go.
        seconds: How long an answer takes.
        cents: What an answer costs.
    """

    def __init__(self, bill, seconds=0.08, cents=2):
        self.bill, self.seconds, self.cents = Bill(bill), seconds, cents
        self._timed_out = set()

    def complete(self, messages, key):
        """The next message: a call of a tool, or an answer.

        The same key is answered again without charge, as with payment providers.
        """
        time.sleep(self.seconds)
        if zlib.crc32(key.encode()) % 8 == 0 and key not in self._timed_out:
            self._timed_out.add(key)
            raise TimeoutError("the model did not answer in time")
        self.bill.charge(key, self.cents)
        text = messages[0]
        order = text.split("A-")[1].split()[0].rstrip(".,?!")
        if len(messages) == 1:
            return {"tool": "look_up", "order": f"A-{order}"}
        found = messages[1]
        if any(word in text for word in ("broken", "twice", "cancel")):
            return {
                "refund": found["paid"],
                "text": f"We are sorry. {found['paid']} EUR are on their way.",
            }
        if found["days_late"] > 3:
            return {
                "refund": 5,
                "text": f"It is {found['days_late']} days late; here are 5 EUR back.",
            }
        return {"refund": 0, "text": "Thank you for writing to us!"}


class OtherKernel:
    """A second kernel in this folder: what a second notebook has. It is there to be killed."""

    def __init__(self):
        self._manager, self._client = start_new_kernel(stderr=subprocess.DEVNULL)

    def run(self, *cells):
        """Run these cells in it; raise what they raise."""
        for cell in cells:
            reply = self._client.execute_interactive(cell, output_hook=_silent, timeout=60)
            if reply["content"]["status"] != "ok":
                raise RuntimeError("\n".join(reply["content"]["traceback"]))

    def kill(self):
        """With SIGKILL: nothing in it has a chance to clean up."""
        os.kill(self._manager.provisioner.pid, signal.SIGKILL)
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def wait_until(is_so, seconds=60, every=0.01):
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)


def _silent(_message):
    """What the other kernel shows is shown nowhere."""
