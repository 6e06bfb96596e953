"""One JupyterLab and one browser for all tests here; a folder, a page and a kernel for each."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright
from support.lab import (
    CHROMIUM,
    CHROMIUM_ARGS,
    REPO,
    SHUT_DOWN_ALL,
    WAIT_MS_MAX,
    open_lab,
    start_server,
    stop_server,
)

# As long as everything else here may take: a machine that is busy is no failure.
expect.set_options(timeout=WAIT_MS_MAX)


@pytest.fixture(scope="package")
def browser():
    """For this folder only: while it is there, nothing else in this process can have a loop."""
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    process, server = start_server(tmp_path_factory.mktemp("jupyter"))
    try:
        yield server
    finally:
        stop_server(process)


@pytest.fixture
def theme() -> str:
    return "JupyterLab Light"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    """What is opened; a module that wants another one has a fixture of this name."""
    return nbformat.read(REPO / "notebooks" / "quickstart.ipynb", as_version=4)


@pytest.fixture
def lab(server, browser, theme, notebook, tmp_path):
    """The notebook, open in a real JupyterLab."""
    server.use_theme(theme)
    lab = open_lab(server, browser, notebook, server.root / tmp_path.name)
    try:
        yield lab
    finally:
        lab.page.evaluate(SHUT_DOWN_ALL)
        for context in browser.contexts:
            context.close()
