"""What starting costs: importing the package, and `%load_ext nbdurable` in a fresh shell.

    python tests/bench/bench_import.py [--rounds 7]

Each figure is the best of several fresh interpreters. `%load_ext` is measured beyond duckdb and
ipywidgets, which are imported first, in a folder without a journal and in one with a journal. The
targets are 150 ms and 300 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

IMPORT = """
import time
begun = time.perf_counter()
import nbdurable
print(time.perf_counter() - begun)
"""
LOAD = """
import time
import duckdb, ipywidgets
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", "nbdurable")
took = time.perf_counter() - begun
shell.run_line_magic("unload_ext", "nbdurable")
print(took)
"""
MAKE_A_JOURNAL = """
import asyncio, nbdurable
from nbdurable import Service
greeter = Service("Greeter")
@greeter.handler()
async def greet(ctx, name: str) -> str:
    return name
async def main():
    async with nbdurable.open(services=[greeter]) as engine:
        for i in range(20):
            await engine.client.service_call(greet, str(i))
asyncio.run(main())
"""


def best_ms(code: str, folder: str, rounds: int) -> float:
    """The quickest of several fresh interpreters: noise only ever adds."""

    def once() -> float:
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
        )
        return float(shown.stdout.splitlines()[-1]) * 1000

    return min(once() for _ in range(rounds))


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"import nbdurable: {best_ms(IMPORT, folder, rounds):.0f} ms")
        print(f"%load_ext, no journal: {best_ms(LOAD, folder, rounds):.0f} ms")
        subprocess.run([sys.executable, "-c", MAKE_A_JOURNAL], cwd=folder, check=True)
        print(f"%load_ext, with a journal: {best_ms(LOAD, folder, rounds):.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
