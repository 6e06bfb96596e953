"""What a call over HTTP costs: calls per second at 100 in flight, beside an echo that does nothing.

    python tests/bench/bench_http.py [--calls 2000] [--in-flight 100] [--rounds 5] [--restate]

Processes serve, another calls, over kept connections, in interleaved rounds: a bare Starlette
application on uvicorn that sends its body back; on `nbdurable up` a handler that returns at once,
by call and by send; and an exclusive handler that reads and writes state, over 20 keys. With
`--restate` the first and the last are also called on a real Restate server from npm, as it comes,
with the same handlers on restate-sdk in a process of their own. With `--url URL` the first is
called wherever it is.

The figure is the ratio between the medians of two columns of one run. CPU is the serving process's,
or of both where two serve. All share the cores of this machine, so compare within one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from nbdurable import Context, ObjectContext, Service, VirtualObject, apart

greeter, counter = Service("Greeter"), VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, n: int) -> int:
    total = (await ctx.get("n") or 0) + n
    ctx.set("n", total)
    return total


# -- serving ------------------------------------------------------------------------------------


async def serve_echo() -> None:
    """Say the address on standard output, then serve until standard input ends."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    listening = apart.listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


@contextlib.contextmanager
def echo() -> Iterator[tuple[str, int]]:
    command = [sys.executable, __file__, "--serve-echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        yield it.stdout.readline().strip(), it.pid
        it.stdin.close()


@contextlib.contextmanager
def up() -> Iterator[tuple[str, int]]:
    """`nbdurable up` with these handlers, as anybody would have it: its address, its process."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["up", "--app", __file__, "--no-token", "--json", "--journal", f"{folder}/journal"]
        words += ["--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command = [sys.executable, "-m", "nbdurable", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as it:
            assert it.stdout is not None
            yield json.loads(it.stdout.readline())["ingress"], it.pid
            it.terminate()


@contextlib.contextmanager
def restate() -> Iterator[tuple[str, list[int]]]:
    """A real server with those handlers: its address, and the processes that serve."""
    from support.cluster import RestateServer
    from support.npm import installed

    command = [sys.executable, str(Path(__file__).with_name("on_restate_sdk.py"))]
    with (
        tempfile.TemporaryDirectory() as programs,
        tempfile.TemporaryDirectory() as folder,
        RestateServer(
            functools.cache(lambda name: installed(name, Path(programs))),
            Path(folder),
            # As it comes: what tests set is smaller.
            RESTATE_DEFAULT_NUM_PARTITIONS="24",
            RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE="2GiB",
        ) as server,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as serving,
    ):
        assert serving.stdin is not None
        assert serving.stdout is not None
        server.register(f"http://127.0.0.1:{serving.stdout.readline().strip()}")
        yield server.ingress_url, [server.pid, serving.pid]
        # The server first: the other waits for its open streams.
        server.kill()
        serving.stdin.close()


# -- calling ------------------------------------------------------------------------------------


class Load(NamedTuple):
    name: str
    url: str
    path: str
    body: bytes
    pids: Sequence[int]
    key_count: int = 0


class Measured(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


async def put_under(load: Load, calls: int, in_flight: int) -> Measured:
    took: list[float] = []
    begun, cpu = time.perf_counter(), cpu_s(load.pids)
    per_connection = calls // in_flight
    await asyncio.gather(*(call(load, n, per_connection, took) for n in range(in_flight)))
    elapsed_s, spent_s = time.perf_counter() - begun, cpu_s(load.pids) - cpu
    took.sort()
    return Measured(
        len(took) / elapsed_s,
        took[len(took) // 2] * 1e3,
        took[len(took) * 99 // 100] * 1e3,
        spent_s / len(took) * 1e6,
    )


async def call(load: Load, number: int, count: int, took: list[float]) -> None:
    """One connection, one call after another. Hand-written, so that the client is not measured."""
    split = urlsplit(load.url)
    assert split.hostname is not None
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    path = load.path.replace("{key}", str(number % load.key_count) if load.key_count else "")
    request = (
        f"POST {path} HTTP/1.1\r\nhost: {split.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(load.body)}\r\n\r\n"
    ).encode() + load.body
    for _ in range(count):
        begun = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:12] in (b"200", b"202"), head
        (length,) = (
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        took.append(time.perf_counter() - begun)
    writer.close()


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of processes so far; 0 of those that are not ours to ask."""
    ticks = 0
    for pid in pids:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        fields = said.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(calls: int, in_flight: int, rounds: int, urls: list[str], *, beside: bool) -> None:
    with contextlib.ExitStack() as running:
        there = running.enter_context(restate()) if beside else None
        echo_url, echo_pid = running.enter_context(echo())
        ingress_url, pid = running.enter_context(up())
        ours = [pid]
        loads = [
            Load("echo", echo_url, "/echo", b'"ada"', [echo_pid]),
            Load("call", ingress_url, "/Greeter/greet", b'"ada"', ours),
            Load("send", ingress_url, "/Greeter/greet/send", b'"ada"', ours),
            Load("object", ingress_url, "/Counter/{key}/add", b"1", ours, key_count=20),
            *(Load(f"call {url}", url, "/Greeter/greet", b'"ada"', ()) for url in urls),
        ]
        if there is not None:
            url, theirs = there
            loads += [
                Load("call, restate", url, "/Greeter/greet", b'"ada"', theirs),
                Load("object, restate", url, "/Counter/{key}/add", b"1", theirs, key_count=20),
            ]
        found: dict[str, list[Measured]] = {load.name: [] for load in loads}
        # Once for nothing: connections, caches and code are there from then on.
        for load in loads:
            asyncio.run(put_under(load, calls, in_flight))
        for _ in range(rounds):
            for load in loads:
                found[load.name].append(asyncio.run(put_under(load, calls, in_flight)))
    print(f"load average of this machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    print(f"{'':32}  calls/s   p50 ms   p99 ms   CPU us")
    medians = {
        name: [statistics.median(column) for column in zip(*measured, strict=True)]
        for name, measured in found.items()
    }
    for name, columns in medians.items():
        print(f"{name:32}" + "".join(f"{median:9.1f}" for median in columns))
    for name in ("call", "object"):
        if f"{name}, restate" in medians:
            print(f"{name}: {medians[name][0] / medians[f'{name}, restate'][0]:.2f} times as many")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve-echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--restate", action="store_true")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", action="append", default=[], dest="urls")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    if arguments.serve_echo:
        asyncio.run(serve_echo())
    else:
        measure(
            arguments.calls,
            arguments.in_flight,
            arguments.rounds,
            arguments.urls,
            beside=arguments.restate,
        )
