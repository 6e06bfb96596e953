"""Who draws widgets: taken for one who does not, a person would lose every button."""

from types import SimpleNamespace

import pytest

from nbdurable.notebook.front_end import draws_widgets

PARENT = {"JPY_PARENT_PID": "1"}
PAGE = {"JPY_SESSION_NAME": "work/notebook.ipynb"}


@pytest.mark.parametrize(
    ("who", "environment", "names", "sent", "draws"),
    [
        ("JupyterLab, Notebook 7", PARENT | PAGE, {}, {"cellId": "a"}, True),
        ("a page that sends no ids of cells", PARENT | PAGE, {}, {}, True),
        ("VS Code", {}, {"__vsc_ipynb_file__": "notebook.ipynb"}, {}, True),
        (
            "VS Code, by its Jupyter server",
            PARENT,
            {"__vsc_ipynb_file__": "n.ipynb"},
            {},
            True,
        ),
        ("a page on a kernel of a program", PARENT, {}, {"cellId": "a"}, True),
        ("who starts kernels otherwise", {}, {}, {}, True),
        ("nbclient, papermill", PARENT, {}, {}, False),
    ],
)
def test_only_who_is_known_not_to_draw_is_given_a_picture(
    monkeypatch, who, environment, names, sent, draws
):
    for name in PARENT | PAGE:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kernel = SimpleNamespace(get_parent=lambda channel: {"metadata": sent})
    assert draws_widgets(SimpleNamespace(kernel=kernel, user_ns=names)) is draws, who


def test_a_terminal_draws_none():
    assert not draws_widgets(SimpleNamespace(user_ns={}))
