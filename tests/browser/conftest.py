"""A headless Chromium with a new home, ended by its own handle."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1400,1000",
)
_PATIENCE_S = 30


@dataclass
class Browser:
    """What the tests do with a page."""

    driver: webdriver.Chrome

    def open(self, path: Path) -> None:
        self.requests()  # forget those of the page before
        self.driver.get(path.as_uri())
        self.wait(lambda: self.script("return document.documentElement.dataset.readyMs !== undefined"))

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.02).until(lambda _: condition())

    def script(self, code: str, *args: object) -> Any:  # noqa: ANN401  # what the script returns
        return self.driver.execute_script(code, *args)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.script("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector: str) -> list[str]:
        """Those of all elements at one moment: the page draws itself anew as it is used."""
        return self.script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def complaints(self) -> list[Any]:
        """What the console says."""
        return self.driver.get_log("browser")

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, but those of the browser's own pages."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        addresses = [message["params"]["request"]["url"] for message in sent]
        return [address for address in addresses if not address.startswith("chrome://")]

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed (tests/browser/chromium.sh installs them)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(programs[1])))
    yield Browser(driver)
    driver.quit()
