"""What a person mistypes in a magic gets one line, with the nearest right spelling."""

from test_magics import COUNTER, GREETER, PAYMENT, wait_until

LINES = [
    # Magics and verbs.
    ("%durabel ls", "there is no %durabel; did you mean %durable?"),
    ("%durable lst", "has no verb 'lst'; did you mean 'ls'?"),
    ("%durable SHOW a", "has no verb 'SHOW'; did you mean 'show'?"),
    ("%durable aprove order-456", "did you mean 'approve'?"),
    ("%durable frobnicate", "has no verb 'frobnicate'; it has: ls, show"),
    # Runs.
    ("%durable show Payment/order-465", "did you mean 'Payment/order-456'?"),
    ("%durable show Paymnet/order-456", "did you mean 'Payment/order-456'?"),
    ("%durable show payment/Order-456", "did you mean 'Payment/order-456'?"),
    ("%durable show ord", "did you mean 'Payment/order-456'?"),
    ("%durable show inv_xyz", "no run is called 'inv_xyz'; %durable ls shows them"),
    ("%durable approve order-457", "did you mean 'Payment/order-456'?"),
    ("%durable reject order-457", "did you mean 'Payment/order-456'?"),
    ("%durable cancel order-457", "did you mean 'Payment/order-456'?"),
    ("%durable kill order-457", "did you mean 'Payment/order-456'?"),
    ("%durable pause order-457", "did you mean 'Payment/order-456'?"),
    ("%durable resume order-457", "did you mean 'Payment/order-456'?"),
    ("%durable accept order-457", "did you mean 'Payment/order-456'?"),
    ("%durable restart order-457", "did you mean 'Payment/order-456'?"),
    ("%durable purge order-457", "did you mean 'Payment/order-456'?"),
    ("%durable result order-457", "did you mean 'Payment/order-456'?"),
    ("%durable attach order-457", "did you mean 'Payment/order-456'?"),
    ("%durable watch order-457", "did you mean 'Payment/order-456'?"),
    ("%durable export out order-457", "did you mean 'Payment/order-456'?"),
    # What is missing, and what is too much.
    ("%durable show", "write: %durable show ID"),
    ("%durable kill order-456 now", "write: %durable kill ID"),
    ("%durable reject", "write: %durable reject ID"),
    ("%durable resume order-456 x", "write: %durable resume ID [REVISION]"),
    ("%durable restart order-456 1x", "write: %durable restart ID [ENTRY]"),
    ("%durable state", "write: %durable state SERVICE/KEY"),
    ("%durable state Counter", "write: %durable state SERVICE/KEY"),
    ("%durable export", "write: %durable export FOLDER"),
    ("%durable doctor now", "doctor takes nothing"),
    ("%durable nest now", "nest takes no arguments"),
    ("%durable sql", "write: %durable sql"),
    # What cannot be done.
    ("%durable cancel done", "has finished: succeeded"),
    ("%durable accept order-456", "has no mismatch to accept: waits for 'approved'"),
    ("%durable resume order-456", "neither paused nor backing off: waits for 'approved'"),
    ("%durable purge order-456", "only what has ended can be forgotten: %durable kill"),
    ("%durable result order-456", "has no result yet: waits for 'approved'"),
    # Quotation marks and JSON.
    ("%durable show 'order-456", "close the quotation mark"),
    ('%durable show "order-456', "close the quotation mark"),
    ("%durable approve order-456 approved True", "did you mean 'true'?"),
    ("%durable approve order-456 approved None", "did you mean 'null'?"),
    ("%durable approve order-456 approved {'a': 1}", """did you mean '{"a": 1}'?"""),
    ("%durable approve order-456 approved yes please", """did you mean '"yes please"'?"""),
    ('%durable approve order-456 approved {"a": 1', "close what it opens"),
    ('%durable approve order-456 approved "yes', "close what it opens"),
    ("%durable state Counter/user1 total {", "close what it opens"),
    ("%durable state Counter/user1 total five", """did you mean '"five"'?"""),
    # Promises, services, names of state, tables.
    ("%durable approve order-456 aproved", "waits for 'approved', not for 'aproved'"),
    ("%durable reject order-456 aproved no", "did you mean that by 'aproved'?"),
    ("%durable restore Paymet", "did you mean 'Payment'?"),
    ("%durable state Countr/user1", "did you mean 'Counter'?"),
    ("%durable state counter/user1", "did you mean 'Counter'?"),
    ("%durable state Greeter/user1", "a service, which has no keys"),
    ("%durable state Counter/user1 totl", "did you mean 'total'?"),
    ("%durable sql selct 1", 'syntax error at or near "selct"'),
    ("%durable sql select target from sys_invocatoin", "nearest: sys_invocation"),
    ("%durable sql select targt from sys_invocation", "Nearest: target"),
    ("%durable sql delete from fact", "DELETE is refused"),
    ("%durable sql 'select 1", "unterminated"),
    # Options.
    ('%durable approve order-456 --coment "so"', "did you mean '--comment'?"),
    ("%durable reject order-456 --reason no", "reject has no option '--reason'; it has: --comment"),
    ("%durable approve order-456 --comment", "a comment stands in quotation marks"),
    ("%durable reject order-456 --comment too dear", '--comment "too dear"'),
    ('%durable reject order-456 --comment "too dear', "a comment stands in quotation marks"),
    ("%durable approve --comment a --comment b", "stands in quotation marks"),
    ('%durable approve --comment "a" --comment "b"', "approve takes one --comment"),
    ('%durable approve order-457 --comment "so"', "did you mean 'Payment/order-456'?"),
    ("%durable ls -all", "ls takes nothing but --all"),
    ("%durable export out --no-payload", "did you mean '--no-payloads'?"),
    ("%durable up --tokn", "did you mean '--no-token'?"),
    ("%durable up now", "takes no further word 'now'"),
    # Names in code.
    ("Payment.run({})", 'write: Payment["my-key"].run(…)'),
    ("Payment['a'].rnu({})", "has no handler 'rnu'; did you mean 'run'?"),
    ("Payment['a'].run()", 'write: Payment["a"].run(…)'),
    ("Greeter['x'].greet('a')", "write: Greeter.greet(…)"),
    ("Greeter.gret('a')", "did you mean 'greet'?"),
    ("Greeter.wave('a')", "has no handler 'wave'; it has: greet"),
    ("Greeter.greet()", "write: Greeter.greet(…)"),
    ("Counter['k'].add.send(1, delay='5s')", "write: delay=timedelta(seconds=5)"),
    ("Counter[1].add(1)", 'write: Counter["1"]'),
]

HANDLER = "async def f(ctx, x): ..."
CELLS = [
    ("%%durable_servce Greeter", HANDLER, "did you mean %%durable_service?"),
    ("%%durable_steps fit", "x = 1", "did you mean %%durable_step?"),
    ("%%durable ls", "select 1", "%%durable takes a cell of SQL only; write: %durable ls"),
    ("%%durable", "select 1", "%%durable takes a cell of SQL only; write: %%durable sql"),
    ("%%durable sql 1x", "select 1", "takes the name to bind, and '1x' is none"),
    ("%%durable_service", HANDLER, "is followed by a name; write: %%durable_service Name"),
    ("%%durable_service 'Greeter", HANDLER, "close the quotation mark"),
    ("%%durable_service My Service", HANDLER, "takes no further word 'Service'"),
    ("%%durable_service my-service", HANDLER, "write: %%durable_service MyService"),
    ("%%durable_service class", HANDLER, "write: %%durable_service Class"),
    ("%%durable_service Greeter --retrys 3", HANDLER, "did you mean '--retries'?"),
    ("%%durable_service Greeter --retension=7d", HANDLER, "did you mean '--retention'?"),
    ("%%durable_service Greeter --retries three", HANDLER, "invalid int value: 'three'"),
    ("%%durable_service Greeter --retries", HANDLER, "--retries: expected one argument"),
    ("%%durable_service Greeter --timeout soon", HANDLER, "write e.g. --timeout 10m"),
    ("%%durable_service Greeter", "async def f(c, x): ...", "write: async def greet(ctx, name)"),
    ("%%durable_workflow Pay", HANDLER, "write: async def run(ctx, request)"),
    ("%%durable_object Payment", HANDLER, "Payment is a workflow, and 1 run of it goes on"),
    ("%%durable_step", "x = 1", "write: %%durable_step fit --out model"),
    ("%%durable_step fit --outs x", "x = 1", "did you mean '--out'?"),
    ("%%durable_step fit --out y", "x = 1", "has not set y; see --out"),
    ("%%durable_step fit --out x y", "x = 1", "takes no further word 'y'"),
    ("%%durable_run", "x = 1", "write: %%durable_run enrich"),
    ("%%durable_run fit --out x", "x = 1", "has no option '--out'; did you mean"),
    ("%%durable_run 'fit", "x = 1", "close the quotation mark"),
]


def test_what_is_mistyped_gets_one_line_with_the_nearest_right_spelling(shell):
    """One notebook for all: none of them does anything, so none spoils it for the next."""
    begin(shell)
    cells = [(f"{line}\n{body}", says) for line, body, says in CELLS]
    wrong = {}
    for source, says in [*LINES, *cells]:
        shell.run(source)
        lines = shell.out.strip().splitlines()
        if shell.error is None or len(lines) != 1 or says not in lines[0]:
            wrong[source] = lines
    assert wrong == {}
    assert "GetPromise" in shell.run("str(h.journal)")
    assert shell.run("h.status") in ("running", "suspended")
    assert shell.run("await Counter['user1'].total()") == 1
    assert shell.run("await Greeter.greet('World')") == "Hello, World!"


def begin(shell):
    for cell in (GREETER, COUNTER, PAYMENT):
        shell.run(cell)
    shell.run('h = Payment["order-456"].run({"amount": 100})')
    shell.run('await Counter["user1"].add(1)')
    shell.run('p = Payment["done"].run({})\nawait Payment["done"].approve("x")\nawait p')
    wait_until(shell, "'GetPromise' in str(h.journal)")
