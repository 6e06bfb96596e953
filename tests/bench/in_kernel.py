#!/usr/bin/env python
"""Stands in for `python` where a side-by-side benchmark kit starts a peer, which lives in a kernel.

    BENCH_PY_NBDURABLE=$PWD/tests/bench/in_kernel.py python -m bench --peers nbdurable

`in_kernel.py -m MODULE ARGUMENTS` starts an ipykernel, whose one cell awaits `MODULE.serve` on the
kernel's own loop, as top-level `await` does in a notebook. Requests and answers go through this
process's standard input and output as if it were the module's. The kernel ends with this process.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys

from jupyter_client.manager import KernelManager

CELL = """
import argparse, ctypes, importlib, os, sys

ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
os.dup2(os.open("/proc/{parent}/fd/0", os.O_RDONLY), 0)
sys.stdin = os.fdopen(0, closefd=False)
module = importlib.import_module({module!r})
module.OUT = os.open("/proc/{parent}/fd/1", os.O_WRONLY)
peers = importlib.import_module(".peers", module.__package__)
parser = argparse.ArgumentParser()
parser.add_argument("--peer")
parser.add_argument("--dir")
parser.add_argument("--cold", action="store_true")
asked = parser.parse_args({arguments!r})
peer = peers.make(asked.peer, asked.dir)
await (module.cold(peer) if asked.cold else module.serve(peer))
"""


def main() -> None:
    _, _, module, *arguments = sys.argv
    if "--prepare" in arguments:
        sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready()
    asked = client.execute(CELL.format(parent=os.getpid(), module=module, arguments=arguments))
    while manager.is_alive():
        try:
            answer = client.get_shell_msg(timeout=1)
        except queue.Empty:
            continue
        if answer["parent_header"].get("msg_id") == asked:
            print("\n".join(answer["content"].get("traceback", ())), file=sys.stderr)
            break
    manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
