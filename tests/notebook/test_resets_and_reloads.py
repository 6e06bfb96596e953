"""What people do to a kernel while handlers run in it: it says so, and takes no harm."""

import pytest
from test_kernels import wait_for_promise

pytestmark = pytest.mark.slow

PAYMENT = """%%durable_workflow Payment
from pathlib import Path

def note(what):
    with Path("noted").open("a") as file:
        file.write(what)

async def run(ctx, order):
    await ctx.run_typed("begin", note, what="b")
    await ctx.promise("approved")
    await ctx.run_typed("end", note, what="e")
    return {"captured": order["amount"]}
"""


def test_reset_says_whose_code_misses_what_and_how_it_goes_on(start_kernel, tmp_path):
    """The namespace is the globals of handlers; a run that misses some is tried again."""
    kernel = begun(start_kernel)
    said = kernel.run("%reset -f").strip()
    assert said == (
        "nbdurable: 1 run of Payment goes on, and its code misses Path, note; nothing is lost:"
        " run its cell again, or %durable restore Payment"
    )
    # Once is enough.
    assert kernel.run("1 + 1").strip() == "2"
    assert "order-456" in kernel.run("%durable ls")
    kernel.run("%durable approve order-456")
    assert "Payment: unchanged (revision 1)" in kernel.run("%durable restore Payment")
    assert "{'captured': 100}" in kernel.run('await Payment["order-456"].run({})')
    assert (tmp_path / "noted").read_text() == "be"


def test_deleting_a_helper_is_said_and_deleting_what_no_run_needs_is_not(start_kernel):
    kernel = begun(start_kernel)
    kernel.run("other = 1")
    assert kernel.run("del other, Payment") == ""
    assert "misses note;" in kernel.run("del note")
    kernel.run("%durable kill order-456")
    kernel.run(PAYMENT)
    assert "misses" not in kernel.run("%reset -f"), "no run needs it"


@pytest.mark.parametrize(
    "deed",
    [
        "%load_ext nbdurable",
        "import nbdurable\nnbdurable.load_ipython_extension(get_ipython())",
        "import importlib, nbdurable\nimportlib.reload(nbdurable)",
        "%load_ext autoreload\n%autoreload 2\n%aimport nbdurable",
        (
            "import importlib\n"
            "from nbdurable.notebook import bound, cells, extension, magics\n"
            "for module in (bound, cells, magics, extension):\n"
            "    importlib.reload(module)\n"
            "%load_ext nbdurable"
        ),
    ],
)
def test_loading_and_reloading_leave_a_run_and_its_kernel_alone(start_kernel, tmp_path, deed):
    kernel = begun(start_kernel)
    kernel.run(deed)
    assert kernel.run(PAYMENT).strip() == "Payment: unchanged (revision 1)"
    assert "approved 'approved'" in kernel.run("%durable approve order-456")
    assert "{'captured': 100}" in kernel.run('await Payment["order-456"].run({})')
    assert kernel.run("print('once')").strip() == "once"
    assert (tmp_path / "noted").read_text() == "be"


def test_the_extension_is_taken_away_whole_even_after_a_reload(start_kernel):
    """An instance of the class before was once forgotten, and kept the journal open beside us."""
    kernel = begun(start_kernel)
    kernel.run(
        "import importlib\n"
        "from nbdurable.notebook import extension, magics\n"
        "importlib.reload(magics); importlib.reload(extension)"
    )
    reloaded = kernel.run("%reload_ext nbdurable")
    assert "joined" not in reloaded
    assert "Payment/order-456 waits for 'approved'" in reloaded
    kernel.run("%unload_ext nbdurable")
    left = kernel.run(
        "import threading\n"
        "ip = get_ipython()\n"
        "print([t.name for t in threading.enumerate() if t.name.startswith('nbdurable')],"
        " ip.input_transformers_post, ip.Completer.custom_matchers)"
    )
    assert left.strip() == "[] [] []"


def begun(start_kernel):
    """A kernel with a run that waits."""
    kernel = start_kernel()
    kernel.run("%load_ext nbdurable")
    kernel.run(PAYMENT)
    kernel.run('h = Payment["order-456"].run({"amount": 100})')
    wait_for_promise(kernel)
    return kernel
