"""The report's page in a real browser: what it shows, that it sorts and filters, light and dark, and that nothing in it runs."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from safeload.cli import run
from tests.forge_cli import CALL, DATA, UNKNOWN, make_tree, pickle_of_global
from tests.services.starting import tool

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1200,900")  # fmt: skip
Show = Callable[[Path], Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium")
    with tempfile.TemporaryDirectory(prefix="safeload-chromium-") as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(tool("chromedriver")))
        driver.set_page_load_timeout(60)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def show(browser: Any) -> Show:
    """Open a page, and forget what was logged before."""

    def opened(page: Path) -> Any:
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(page.resolve().as_uri())
        return browser

    return opened


def rows(browser: Any) -> list[tuple[str, str]]:
    """State and path of each row that is shown."""
    cells = "[row.cells[0].innerText, row.querySelector('td.path > code').innerText]"
    script = f"return [...document.querySelectorAll('#body tr')].map(row => {cells})"
    return [(state, path) for state, path in browser.execute_script(script)]


def report(here: Path, *paths: str) -> Path:
    page = here / "report.html"
    run(["scan", "--quiet", "--report", str(page), "--force", *paths])
    return page


def test_a_page_that_can_be_sorted_and_filtered(here: Path, show: Show) -> None:
    (here / "hub").mkdir()
    make_tree(here / "hub")
    browser = show(report(here, "hub"))
    assert browser.get_log("browser") == []
    shown = rows(browser)
    assert [state for state, _ in shown] == ["refused", "refused", "error", "allowed", "allowed", "allowed", "skipped"]
    assert ("refused", "hub/hostile.pt") in shown
    first = browser.find_element(By.CSS_SELECTOR, "#body tr.refused")
    assert "SL101 dangerous-call: calls os.system" in first.text
    found = browser.find_elements(By.CSS_SELECTOR, ".tile")
    tiles = {tile.get_attribute("data-state"): tile.find_element(By.TAG_NAME, "b").text for tile in found}
    assert tiles == {"allowed": "3", "refused": "2", "error": "1", "skipped": "1"}

    browser.find_element(By.CSS_SELECTOR, ".tile.error").click()
    assert rows(browser) == [("error", "hub/junk.bin")]
    browser.find_element(By.CSS_SELECTOR, ".tile.error").click()
    search = browser.find_element(By.ID, "search")
    search.send_keys("SYSTEM os.")
    assert rows(browser) == [("refused", "hub/hostile.pt")]
    assert browser.find_element(By.ID, "caption").text == "1 of 7 files"
    search.clear()
    search.send_keys(" ")
    Select(browser.find_element(By.ID, "format")).select_by_visible_text("safetensors")
    assert rows(browser) == [("allowed", "hub/sub/x.safetensors")]
    Select(browser.find_element(By.ID, "format")).select_by_index(0)
    Select(browser.find_element(By.ID, "rule")).select_by_value("SL103")
    assert rows(browser) == [("refused", "hub/unknown.pkl")]
    Select(browser.find_element(By.ID, "rule")).select_by_index(0)

    for key, expected in (("path", sorted), ("path", lambda names: sorted(names, reverse=True))):
        browser.find_element(By.CSS_SELECTOR, f'th[data-key="{key}"] button').click()
        names = [path for _, path in rows(browser)]
        assert names == expected(names)
    assert browser.find_element(By.CSS_SELECTOR, 'th[data-key="path"]').get_attribute("aria-sort") == "descending"
    browser.find_element(By.CSS_SELECTOR, 'th[data-key="size"] button').click()
    assert rows(browser)[0][1] == "hub/model.pt"
    picture = here / "report.png"
    browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 10_000  # something is on it


def test_light_and_dark(here: Path, show: Show) -> None:
    (here / "a.pkl").write_bytes(DATA)
    browser = show(report(here, "a.pkl"))

    def ground() -> str:
        colour: str = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return colour

    colours = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        colours[scheme] = ground()
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    browser.find_element(By.ID, "theme").click()
    assert ground() == colours["light"]
    browser.find_element(By.ID, "theme").click()
    assert ground() == colours["dark"]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


HOSTILE = [
    "<script>document.title='ran'</script>", "</script><script>document.title='ran'</script>", "<img src=x onerror=document.title='ran'>",
    "\"'><svg onload=document.title='ran'>", "<!--<script>", "]]>", "a\u2028b", "\u202egpj.exe", "&lt;b&gt;", "{{7*7}}", "__proto__",
    "javascript:alert(1)", "<style>*{display:none}</style>", "</noscript><b>",
]  # fmt: skip


def test_nothing_out_of_a_file_is_markup(here: Path, show: Show) -> None:
    """Names of files and of globals are a stranger's, and the page is opened by people with rights."""
    (here / "hub").mkdir()
    for number, text in enumerate(HOSTILE):
        (here / "hub" / f"{number}{text.replace('/', '_')}").write_bytes(CALL)
        (here / "hub" / f"g{number}.pkl").write_bytes(pickle_of_global("m", text))
    browser = show(report(here, "hub"))
    assert browser.title == "safeload scan"
    assert len(rows(browser)) == 2 * len(HOSTILE)
    assert browser.get_log("browser") == []
    for name in ("img", "svg", "b:not(.tile b):not(.level-error):not(.level-warning):not(.level-note)", "iframe", "link"):
        assert not browser.find_elements(By.CSS_SELECTOR, name), name
    texts = [path for _, path in rows(browser)]
    assert "hub/0<script>document.title='ran'<_script>" in texts


def test_the_pages_own_policy_lets_nothing_else_run_or_load(here: Path, show: Show) -> None:
    """If markup came into it all the same: no script, no style, no request."""
    asked: list[bytes] = []

    class Listening(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(1000))

    (here / "a.pkl").write_bytes(CALL)
    page = report(here, "a.pkl")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Listening) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        extra = f"<script>document.title='ran'</script><img src='{place}/i'><script src='{place}/s'></script>"
        extra += f"<link rel=stylesheet href='{place}/c'>"
        page.write_text(page.read_text().replace("<main", f"{extra}<main"))
        browser = show(page)
        assert browser.title == "safeload scan"
        assert [path for _, path in rows(browser)] == ["a.pkl"]
        blocked = [entry["message"] for entry in browser.get_log("browser")]
        assert len(blocked) == 4
        assert all("Content Security Policy" in message for message in blocked)
        server.shutdown()
    assert asked == []


def test_the_page_asks_for_nothing(here: Path, show: Show) -> None:
    (here / "a.pkl").write_bytes(CALL)
    page = report(here, "a.pkl")
    browser = show(page)
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"}
    assert urls == {page.resolve().as_uri()}
    text = page.read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_many_files_are_shown_by_pages(here: Path, show: Show) -> None:
    (here / "hub").mkdir()
    for number in range(601):
        (here / "hub" / f"{number:04}.pkl").write_bytes(UNKNOWN if number == 600 else DATA)
    browser = show(report(here, "hub", "--jobs", "2"))
    assert len(rows(browser)) == 200
    assert rows(browser)[0] == ("refused", "hub/0600.pkl")
    assert browser.find_element(By.ID, "page").text == "page 1 of 4"
    assert not browser.find_element(By.ID, "before").is_enabled()
    for _ in range(3):
        browser.find_element(By.ID, "after").click()
    assert [path for _, path in rows(browser)] == ["hub/0599.pkl"]
    assert not browser.find_element(By.ID, "after").is_enabled()


def test_without_scripts_what_is_not_allowed_is_listed(here: Path, browser: Any) -> None:
    (here / "hub").mkdir()
    make_tree(here / "hub")
    page = report(here, "hub")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.resolve().as_uri())
        text = browser.find_element(By.TAG_NAME, "body").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "hub/hostile.pt" in text
    assert "3 allowed, 2 refused, 1 error, 1 skipped" in text
    assert "hub/model.pt" not in text
