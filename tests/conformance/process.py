"""An engine in a process of its own, to be killed: opens the journal, does one thing, stays.

    python process.py FOLDER call PATH JSON      call, and say what came back
    python process.py FOLDER send PATH JSON      send, and say the id
    python process.py FOLDER stay                only be there, so that what was begun goes on

Says `ready` when the journal is open and one line more when the thing is done.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from conformance.driver import SERVICES, Runtime
from nbdurable import DurableEngine


async def main(folder: str, verb: str, path: str = "", argument: str = "null") -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with DurableEngine(folder, SERVICES) as engine:
        runtime = Runtime(engine)
        print("ready", flush=True)
        match verb:
            case "call":
                print(json.dumps(await runtime.call(path, json.loads(argument))), flush=True)
            case "send":
                print(await runtime.send(path, json.loads(argument)), flush=True)
        await stop.wait()


asyncio.run(main(*sys.argv[1:]))
