"""What a live journal costs the browser and the kernel, beside an idle notebook in the same run.

    python tests/bench/bench_widget.py [--seconds 60] [--rounds 1] [--rate 100]

A real JupyterLab in a real Chromium. In one notebook a workflow makes journal entries at a fixed
rate, its live journal in view; then, in the same page and the same kernel, nothing happens for as
long. The figures are the longest task of the browser's main thread (the Long Tasks API counts those
over 50 ms), its busy share by Chromium's own metrics, the share of one core that the kernel's main
thread had, how late a callback of its loop was, and what was sent to the page.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright
from support.lab import CHROMIUM, CHROMIUM_ARGS, Lab, open_lab, start_server, stop_server
from support.notebooks import notebook_of

EDGE_S = 2
FLOW = """%%durable_workflow Busy
import asyncio
import time

async def run(ctx, plan):
    began = time.monotonic()
    # A step is two facts: that it was asked for, and what it came to.
    for n in range(plan["events"] // 2):
        await ctx.run_typed(f"step {n}", lambda: {"n": n})
        ahead = began + 2 * (n + 1) / plan["rate"] - time.monotonic()
        await asyncio.sleep(max(ahead, 0))
    await ctx.promise("end")
"""
# Its own thread's time, and how late a callback of its loop is: what a cell or a click would feel.
MEASURE = """
import asyncio, json, threading, time

async def measure(seconds):
    clock = time.pthread_getcpuclockid(threading.main_thread().ident)
    began, cpu = time.monotonic(), time.clock_gettime(clock)
    late = []
    while time.monotonic() - began < seconds:
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        late.append(time.monotonic() - due)
    share = (time.clock_gettime(clock) - cpu) / (time.monotonic() - began)
    late.sort()
    print(json.dumps({"main_share": share, "late_p99_ms": late[int(len(late) * .99)] * 1000,
        "late_max_ms": late[-1] * 1000}))
"""
OBSERVE = """() => {
    window.longTasks = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.longTasks.push(entry.duration);
    }).observe({ type: "longtask" });
    // Of long frames, what the widget itself did in them: its module comes from a blob.
    window.own_ms = [];
    new PerformanceObserver((list) => {
        for (const frame of list.getEntries()) {
            const own = frame.scripts.filter((one) => !one.sourceURL.startsWith("http"));
            window.own_ms.push(own.reduce((sum, one) => sum + one.duration, 0));
        }
    }).observe({ type: "long-animation-frame" });
    // What no task reports: how late a frame is.
    window.frames_ms = [];
    let last = performance.now();
    const frame = (now) => {
        window.frames_ms.push(now - last);
        last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
}"""
TAKE = """() => {
    const taken = {
        tasks: window.longTasks, frames: window.frames_ms, own: window.own_ms,
    };
    window.longTasks = []; window.frames_ms = []; window.own_ms = [];
    return taken;
}"""


def metrics(session: CDPSession) -> dict[str, float]:
    found = session.send("Performance.getMetrics")["metrics"]
    return {one["name"]: one["value"] for one in found}


def phase(lab: Lab, session: CDPSession, received: list[int], seconds: float, cell: str) -> dict:
    lab.start(cell)
    # What running a cell costs JupyterLab itself, at its beginning and its end, is left out.
    lab.page.wait_for_timeout(EDGE_S * 1000)
    lab.page.evaluate(TAKE)
    received.clear()
    before = metrics(session)
    lab.page.wait_for_timeout(seconds * 1000)
    after = metrics(session)
    taken = lab.page.evaluate(TAKE)
    lab.wait_for_text(cell, "main_share")
    kernel = json.loads(lab.text(cell).strip().splitlines()[-1])
    busy = {
        name: (after[name] - before[name]) / seconds
        for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    }
    return {
        "longest_task_ms": max(taken["tasks"], default=0.0),
        "of_which_widget_ms": max(taken["own"], default=0.0),
        "long_tasks": len(taken["tasks"]),
        "longest_frame_ms": max(taken["frames"], default=0.0),
        "browser_busy": busy["TaskDuration"],
        "script": busy["ScriptDuration"],
        "layout": busy["LayoutDuration"] + busy["RecalcStyleDuration"],
        "received_kb_per_s": sum(received) / seconds / 1000,
        "kernel_main_share": kernel["main_share"],
        "kernel_late_p99_ms": kernel["late_p99_ms"],
        "kernel_late_max_ms": kernel["late_max_ms"],
    }


def count_frames(page: Page, received: list[int]) -> None:
    def hear(payload: str | bytes) -> None:
        received.append(len(payload))

    page.on("websocket", lambda socket: socket.on("framereceived", hear))


def measure(server: Any, browser: Any, folder: Path, seconds: float, rate: int) -> dict[str, dict]:
    watched = seconds + 2 * EDGE_S
    events = int(rate * (watched + 5))
    plan = {"events": events, "rate": rate}
    notebook = notebook_of(
        load="%load_ext nbdurable",
        flow=FLOW,
        measures=MEASURE,
        idle=f"await measure({watched})",
        submit=f'Busy["a"].run({plan})',
        busy=f"await measure({watched})",
        count="%durable sql select count(*) as n from sys_journal",
    )
    lab = open_lab(server, browser, notebook, folder)
    received: list[int] = []
    # Sockets are told when they are opened.
    count_frames(lab.page, received)
    lab.reload()
    session = lab.page.context.new_cdp_session(lab.page)
    session.send("Performance.enable")
    lab.page.evaluate(OBSERVE)
    lab.run("load", "flow", "measures")
    found = {"idle": phase(lab, session, received, seconds, "idle")}
    lab.run("submit")
    lab.page.get_by_role("table", name="Journal entries").scroll_into_view_if_needed()
    found["live journal"] = phase(lab, session, received, seconds, "busy")
    lab.run("count")
    print("entries:", lab.text("count").split()[-1])
    lab.shot("bench-widget")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=int, default=100, help="journal events per second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as own, sync_playwright() as playwright:
        process, server = start_server(Path(own))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            for number in range(asked.rounds):
                folder = server.root / f"round-{number}"
                found = measure(server, browser, folder, asked.seconds, asked.rate)
                for name in next(iter(found.values())):
                    values = "  ".join(f"{what} {one[name]:9.3f}" for what, one in found.items())
                    print(f"{name:20} {values}")
        finally:
            browser.close()
            stop_server(process)


if __name__ == "__main__":
    main()
