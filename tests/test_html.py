"""The HTML report in a real browser: opens from disk, asks the network for nothing, works by keyboard and ear."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from assessor.assessment import Assessment, measure
from assessor.contract import Check
from assessor.registry import load_checks
from assessor.report import report_html

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="wants a browser: Debian packages chromium and chromium-driver"
)
UNNAMED_IMAGES = """
return [...document.querySelectorAll('img, svg')].filter(e => e.getAttribute('aria-hidden') !== 'true'
  && !(e.getAttribute('alt') || e.getAttribute('aria-label') || e.querySelector('title'))).length"""
HEADINGS = "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => +e.tagName[1])"
BROKEN_LINKS = """
return [...document.querySelectorAll('a[href^="#"]')].map(e => e.getAttribute('href'))
  .filter(h => !document.getElementById(h.slice(1)))"""
TABLES_WITHOUT_HEADINGS = """
return [...document.querySelectorAll('table')]
  .filter(e => !e.querySelector('th') && !e.querySelector('.label')).length"""
ELSEWHERE = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return dict(load_checks())


@pytest.fixture
def page(make_folder: Callable[..., Any], checks: dict[str, Check]) -> Path:
    table = "y,p,s,sex\n" + "".join(f"{i % 2},{i % 2},{0.1 + 0.8 * (i % 2)},{'fm'[i % 3 == 0]}\n" for i in range(300))
    project = make_folder(table=table)
    measure(project, ["fairness.group_metrics", "reliability.performance", "uncertainty.calibration"])
    path: Path = project.folder / "report.html"
    path.write_text(report_html(Assessment.read(project), checks))
    return path


@pytest.fixture
def browser() -> Iterator[Any]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.mark.slow
def test_the_page_in_a_browser(page: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script(ELSEWHERE) == []
    assert "small system" in browser.title
    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert browser.execute_script(UNNAMED_IMAGES) == 0
    assert browser.execute_script(TABLES_WITHOUT_HEADINGS) == 0
    assert browser.execute_script(BROKEN_LINKS) == []
    levels = browser.execute_script(HEADINGS)
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(browser.find_elements(By.CSS_SELECTOR, ".card .plot img")) == 3

    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    first = browser.switch_to.active_element
    assert first.text == "To the contents"
    assert first.location["x"] >= 0
    first.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#contents")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.get_attribute("href").endswith("#first")
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", link) != "none"

    for width in (360, 1200):
        browser.set_window_size(width, 900)
        assert browser.execute_script(WIDE) <= 0, width


@pytest.mark.slow
def test_what_a_screen_reader_hears(page: Path, browser: Any) -> None:
    browser.get(page.as_uri())
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    heard = [node for node in nodes if not node.get("ignored")]
    images = [node for node in heard if node["role"]["value"] in {"image", "img", "SvgRoot"}]
    assert images
    assert all(node["name"]["value"] for node in images)
    assert {"heading", "table", "columnheader", "link"} <= {node["role"]["value"] for node in heard}


def test_the_record_can_be_saved_from_the_page(page: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    browser.get(page.as_uri())
    link = browser.find_element(By.CSS_SELECTOR, "a[download]")
    assert link.get_attribute("download") == "assessment.json"
    assert link.get_attribute("href").startswith("data:application/json;base64,")
