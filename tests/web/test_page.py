"""The page as files, and in a browser where there is one (slow)."""

import json
import re
import shutil
import threading
import time
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
import uvicorn
from web_world import ANNA, NASTY, application

from crscli.web.server import bound

PAGE = {
    path.name: path.read_text(encoding="utf-8") for path in Path(str(files("crscli.web"))).joinpath("page").iterdir()
}


def test_the_page_is_four_files_that_need_nothing_else():
    assert PAGE.keys() == {"index.html", "page.css", "page.js", "icon.svg"}
    for text in PAGE.values():
        addresses = set(re.findall(r"https?://[^\s\"')]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}  # a namespace
        assert not re.search(r"@import|url\(", text)
    named = re.findall(r"(?:href|src)=\"([^\"#]+)\"", PAGE["index.html"])
    assert set(named) == {"page.css", "page.js", "icon.svg"}


def test_nothing_in_the_page_is_inline_and_no_text_becomes_markup():
    html, script = PAGE["index.html"], PAGE["page.js"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL) == [(' src="page.js"', "")]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(", script
    )


def test_the_page_can_be_used_without_seeing_it():
    html = PAGE["index.html"]
    assert '<html lang="en">' in html
    assert 'aria-live="polite"' in html
    assert 'name="viewport"' in html
    for tag in re.findall(r"<(?:textarea|input)[^>]*>", html):
        assert f'for="{re.search(r"id=.([a-z-]+)", tag)[1]}"' in html
    for button in re.findall(r"<button.*?</button>", html, re.DOTALL):
        assert "aria-label=" in button or re.sub(r"<[^>]+>|\s", "", button)
    assert "prefers-reduced-motion" in PAGE["page.css"]
    assert "prefers-color-scheme" in PAGE["page.css"]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_both_sets_of_colours():
    sets = re.findall(r"--paper: #.*?color-scheme: (?:light|dark);", PAGE["page.css"], re.DOTALL)
    assert len(sets) == 3
    for colours in (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text)) for text in sets):
        for ink, ground in (
            ("ink", "paper"), ("ink", "sheet"), ("ink", "leaf-wash"), ("ink", "warm-wash"), ("soft", "paper"),
            ("soft", "sheet"), ("leaf-ink", "leaf"), ("mine-ink", "mine"), ("warm", "warm-wash"), ("paper", "warm"),
        ):  # fmt: skip
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
    assert sets[1].split() == sets[2].split()  # the system's dark is the toggle's


# ---- in a browser -------------------------------------------------------------------------------------------------

ENTER, ESCAPE, UP, RIGHT, TAB, SHIFT = "\ue007", "\ue00c", "\ue013", "\ue014", "\ue004", "\ue008"
_DRIVER = shutil.which("chromedriver")


class Browser:
    """Chromium, driven by the WebDriver protocol."""

    def __init__(self, port):
        self.port = port
        self.path = ""
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,900"]
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.path = f"/session/{made['sessionId']}"

    def ask(self, method, path, body=None):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, self.path + path, json.dumps(body or {}) if method == "POST" else None)
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        assert not isinstance(value, dict) or "error" not in value, value
        return value

    def js(self, expression):
        return self.ask("POST", "/execute/sync", {"script": f"return {expression}", "args": []})

    def until(self, expression):
        end = time.monotonic() + 15
        while not self.js(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)

    def keys(self, text):
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def wide(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})

    def complaints(self):
        return [line["message"] for line in self.ask("POST", "/se/log", {"type": "browser"})]


@pytest.fixture
def browser():
    if _DRIVER is None:
        pytest.skip("no chromedriver")
    with bound("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    driver = Popen([_DRIVER, f"--port={port}"], stdout=DEVNULL, stderr=DEVNULL)
    try:
        for _ in range(100):
            try:
                opened = Browser(port)
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield opened
        opened.ask("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()


@pytest.fixture
def address(tmp_path, request):
    """Where a service listens, in a thread of this process."""
    listening = bound("127.0.0.1", 0)
    app = application(tmp_path, tokens=getattr(request, "param", ()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()
    listening.close()


COUNT = "document.querySelectorAll('{}').length"
FOCUS = "document.activeElement"


@pytest.mark.slow
def test_a_conversation_with_the_keyboard_alone(browser, address):
    browser.ask("POST", "/url", {"url": address})
    browser.until("document.querySelector('#model').textContent === 'blend'")
    browser.keys(f"something from the 90s{ENTER}")
    browser.until(f"{COUNT.format('.card')} === 2")
    assert browser.js("document.querySelectorAll('.card h3')[1].textContent") == NASTY
    assert browser.js(COUNT.format("main img, main b:not(.kept b)")) == 0
    assert "Laughs" in browser.js("document.querySelector('#status').textContent")
    browser.keys(UP)
    assert browser.js(f"{FOCUS}.getAttribute('aria-label')") == "Laughs (1995)"
    browser.keys(RIGHT + TAB + TAB + ENTER)
    assert browser.js(f"{FOCUS}.dataset.opinion") == "disliked"
    browser.until(f"{FOCUS}.getAttribute('aria-pressed') === 'true'")
    browser.keys(ESCAPE)
    assert browser.js(f"{FOCUS}.id") == "text"
    browser.keys(f"one{SHIFT}")
    browser.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": [
        {"type": "keyDown", "value": SHIFT}, {"type": "keyDown", "value": ENTER}, {"type": "keyUp", "value": ENTER},
        {"type": "keyUp", "value": SHIFT}]}]})  # fmt: skip
    browser.keys(f"more{ENTER}")
    browser.until("document.querySelectorAll('.mine').length === 2 && !document.querySelector('.dots')")
    assert browser.js("document.querySelectorAll('.mine .bubble')[1].lastChild.textContent") == "one\nmore"
    browser.until("document.querySelectorAll('.theirs').length === 2")
    time.sleep(1.5)
    browser.js("location.reload()")
    browser.until(f"{COUNT.format('.theirs')} === 2 && {COUNT.format('.mine')} === 2")
    assert browser.js(COUNT.format("[data-opinion=disliked][aria-pressed=true]")) == 1
    browser.js("document.querySelector('#fresh').click()")
    browser.until(f"{COUNT.format('.turn')} === 0 && {FOCUS}.id === 'text'")
    assert browser.js("sessionStorage.getItem('crs-session')") is None
    assert browser.complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 360, 768, 1440, 2560])
def test_nothing_is_wider_than_the_window(browser, address, width):
    browser.wide(width, 740)
    browser.ask("POST", "/url", {"url": address})
    browser.keys(f"something from the 90s{ENTER}")
    browser.until(COUNT.format(".next"))
    assert browser.js("document.documentElement.scrollWidth") == width
    assert browser.js("document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth")
    small = "[...document.querySelectorAll('button')].filter(b => b.offsetWidth && b.offsetHeight < 32).length"
    assert browser.js(small) == 0


@pytest.mark.slow
@pytest.mark.parametrize("address", [(ANNA,)], indirect=True)
def test_a_token_is_asked_for(browser, address):
    browser.ask("POST", "/url", {"url": address})
    browser.until("document.querySelector('#door').open")
    browser.keys(f"wrong-wrong-wrong-wrong{ENTER}")
    browser.until("document.querySelector('#door-text').textContent.includes('not known')")
    browser.keys(f"{ANNA}{ENTER}")
    browser.until("document.querySelector('#model').textContent === 'blend'")
    assert browser.js("document.querySelector('#door').open") is False


@pytest.mark.slow
def test_errors_are_told_in_words(browser, address):
    browser.ask("POST", "/url", {"url": address})
    browser.until("document.querySelector('#model').textContent === 'blend'")
    browser.js("window.fetch = () => Promise.reject(new TypeError('gone'))")
    browser.keys(f"a comedy{ENTER}")
    browser.until(COUNT.format(".notice button"))
    assert "cannot be reached" in browser.js("document.querySelector('.notice').textContent")
    browser.js("sessionStorage.setItem('crs-session', 'x'.repeat(43)) || location.reload()")
    browser.until("document.querySelector('#model').textContent === 'blend'")
    browser.keys(f"a comedy{ENTER}")
    browser.until(f"{COUNT.format('.card')} === 2")
