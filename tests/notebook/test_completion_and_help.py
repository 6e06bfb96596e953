"""TAB and `?`, asked of a real kernel as a front end asks."""

import pytest
from test_magics import COUNTER, GREETER, PAYMENT

pytestmark = pytest.mark.slow

# Up to the cursor, and all that is offered.
TABS = [
    ("%durable ap", ["approve"]),
    ("%durable re", ["reject", "resume", "restart", "result", "restore"]),
    ("x = 1\n%durable sh", ["show"]),
    ("%durable show Pay", ["Payment/order-456"]),
    ("%durable kill Payment/or", ["Payment/order-456"]),
    ("%durable approve ", ["Payment/order-456", "--comment"]),
    ("%durable approve order-456 ", ["approved", "--comment"]),
    ("%durable reject Payment/order-456 ap", ["approved"]),
    ("%durable reject order-456 approved --", ["--comment"]),
    ("%durable restore ", ["Greeter", "Counter", "Payment"]),
    ("%durable state Coun", ["Counter/user1"]),
    ("%durable state Counter/user1 ", ["total"]),
    ("%durable export out Pay", ["Payment/order-456"]),
    ("%durable export out --", ["--no-payloads"]),
    ("%durable ls ", ["--all"]),
    ("%durable up --", ["--detach", "--ingress", "--admin", "--no-token"]),
    ("%%durable_service Gre", ["Greeter"]),
    ("%%durable_workflow Payment --re", ["--retries", "--retention"]),
    ("%%durable_step fit --", ["--out", "--key", "--fresh"]),
    ("%%durable_run enrich --k", ["--key"]),
    ("Greeter.", ["greet"]),
    ("await Counter['user1'].", ["add", "total"]),
    ('Payment["order-456"].ap', ["approve"]),
]
HELP = [
    ("%durable", "Look at runs", "%durable approve [ID [PROMISE [VALUE]]]", "--comment"),
    ("%%durable_service", "%%durable_service [--pin]", "--timeout TIMEOUT"),
    ("%%durable_object", "%%durable_object [--pin]", "one at a time per key"),
    ("%%durable_workflow", "%%durable_workflow [--pin]", "--retention RETENTION"),
    ("%%durable_step", "%%durable_step [--out OUT]", "restored"),
    ("%%durable_run", "%%durable_run [--key KEY]", "--fresh"),
    ("Counter", "add(…)", "total()"),
    ("Greeter.greet", "Greeter.greet(name, /, *, idempotency_key=None)", "Submit"),
]


def test_tab_offers_what_may_follow_and_nothing_else(start_kernel):
    kernel = begun(start_kernel)
    offered = {line: kernel.completions(line) for line, _ in TABS}
    assert offered == dict(TABS)
    # A cell magic's line is completed above its body, and the body is Python.
    body = "%%durable_service Greeter --pri\nasync def f(ctx):\n    pri"
    assert kernel.completions(body, cursor=body.index("\n")) == ["--private"]
    assert "print" in kernel.completions(body)


def test_a_tab_opens_no_journal(start_kernel, tmp_path):
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    assert "approve" in kernel.completions("%durable ")
    kernel.completions("%durable show ")
    kernel.completions("%durable state ")
    assert not (tmp_path / ".nbdurable").exists()


def test_a_question_mark_shows_how_each_magic_is_written(start_kernel):
    kernel = begun(start_kernel)
    for name, *says in HELP:
        shown = kernel.help_of(name)
        for words in says:
            assert words in shown, f"{name}? shows {shown}"


def begun(start_kernel):
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    for cell in (GREETER, COUNTER, PAYMENT):
        kernel.run(cell)
    kernel.run('await Counter["user1"].add(1)')
    kernel.run('h = Payment["order-456"].run({"amount": 1})')
    kernel.run(
        "import asyncio\nwhile 'GetPromise' not in str(h.journal):\n    await asyncio.sleep(0.02)"
    )
    return kernel
