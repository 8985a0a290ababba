"""A browser for the tests of pages."""

import shutil
from pathlib import Path
from typing import Any

import pytest


def browser(profile: Path) -> Any:
    """Return a headless Chromium that can reach no host but this one, driven by selenium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver here to open pages with, and `make test-all` could not install them")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *(
            "disable-component-update",
            "disable-sync",
            "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
            "window-size=1500,1000",
        ),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
