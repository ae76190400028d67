"""The page of `microscope` in a headless Chromium, by real clicks and keys, from its files."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from digits import Digits
from torch.utils.data import DataLoader

from fvlightning.cli import main

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install '.[browser]'")
By = pytest.importorskip("selenium.webdriver.common.by").By
Wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
errors = pytest.importorskip("selenium.common.exceptions")
Keys = webdriver.Keys
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium or chromedriver is missing")
WAIT_SECONDS = 20
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


class Data(Digits):
    """It gives its loaders without a trainer."""

    class_names = ("<script>throw 1</script>", *"bcdefghij")

    def train_dataloader(self) -> Any:
        return DataLoader(self.images, batch_size=self.batch_size)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the page of a training of one epoch."""
    folder = tmp_path_factory.mktemp("run")
    callback = "fvlightning.VisualizationCallback"
    trainer = [f"--trainer.{name}" for name in ("accelerator=cpu", "max_epochs=1", "enable_progress_bar=false")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pictures = ["--trainer.callbacks", callback, "--trainer.callbacks.units", '["conv:*", "fc:*"]']
        args = ["fit", "--model", "digits.Classifier", "--data", f"{__name__}.Data", *trainer, *pictures]
        args += ["--maximizer", "Maximizer", "--maximizer.steps", "4", "--microscope_after_fit", "true"]
        assert main(args) == 0
    (index,) = folder.rglob("index.html")
    return index.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: str) -> Iterator[Callable[[str], None]]:
    """Return a function that opens a state of the page; at the end there are no errors, and no other addresses."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")

    def open_state(state: str) -> None:
        browser.get("about:blank")
        browser.get(page + state)

    yield open_state
    assert browser.get_log("browser") == []
    folder = page.rpartition("/")[0]
    messages = [entry["message"] for entry in browser.get_log("performance")]
    requests = [text for text in messages if '"Network.requestWillBeSent"' in text]
    assert requests
    assert not [text for text in requests if folder not in text and '"data:' not in text and "about:blank" not in text]


def wait_for(browser: Any, condition: Callable[[], object]) -> None:
    # A heading may be replaced between the two calls that find it and read it.
    gone = [errors.NoSuchElementException, errors.StaleElementReferenceException]
    Wait(browser, WAIT_SECONDS, 0.05, gone).until(lambda _: condition())


def heading(browser: Any) -> str:
    return browser.find_element(By.TAG_NAME, "h1").text


def press(browser: Any, key: str) -> None:
    webdriver.ActionChains(browser).send_keys(key).perform()


def test_map_layer_unit_slider_search_and_back(browser: Any, opened: Callable[[str], None]):
    opened("")
    wait_for(browser, lambda: heading(browser) == "Net")
    browser.find_element(By.LINK_TEXT, "fc").click()
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".wall li")) == 10)
    assert "<script>throw 1</script>" in browser.find_element(By.CSS_SELECTOR, ".wall").text
    browser.find_element(By.CSS_SELECTOR, '[data-tile="3"]').click()
    wait_for(browser, lambda: heading(browser).startswith("fc:3"))
    press(browser, Keys.ARROW_RIGHT)
    wait_for(browser, lambda: heading(browser).startswith("fc:4"))
    browser.find_element(By.ID, "epoch").send_keys(Keys.HOME)
    wait_for(browser, lambda: browser.find_element(By.ID, "epoch-name").text == "before training")
    assert browser.current_url.endswith("#layer=fc&unit=4&epoch=0")
    assert "before training: score" in browser.find_element(By.CSS_SELECTOR, ".pictures").text
    browser.find_element(By.CSS_SELECTOR, ".film button:last-child").click()
    assert browser.current_url.endswith("#layer=fc&unit=4")
    browser.find_element(By.TAG_NAME, "h1").click()
    press(browser, "/")
    webdriver.ActionChains(browser).send_keys("conv:2").send_keys(Keys.ENTER).perform()
    wait_for(browser, lambda: heading(browser) == "conv:2")
    browser.back()
    wait_for(browser, lambda: heading(browser).startswith("fc:4"))
    press(browser, Keys.ESCAPE)
    wait_for(browser, lambda: heading(browser) == "fc")
    assert browser.switch_to.active_element.get_attribute("data-tile") == "4"
    press(browser, Keys.ARROW_LEFT)
    press(browser, Keys.ENTER)
    wait_for(browser, lambda: heading(browser).startswith("fc:3"))
    press(browser, Keys.ESCAPE)
    press(browser, Keys.ESCAPE)
    wait_for(browser, lambda: heading(browser) == "Net")


def test_walls_are_sorted_filtered_and_switched(browser: Any, opened: Callable[[str], None]):
    def figure_texts() -> list[str]:
        return [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".wall .label > :last-child")]

    def figures() -> list[float]:
        return [float(text) for text in figure_texts()]

    opened("#layer=fc&sort=score&down=1")
    wait_for(browser, lambda: len(figures()) == 10)
    scores = figures()
    assert scores == sorted(scores, reverse=True)
    opened(f"#layer=fc&sort=score&by=score&from={(scores[4] + scores[5]) / 2}")  # the texts are rounded
    wait_for(browser, lambda: heading(browser) == "fc")
    assert figures() == sorted(scores[:5])
    assert browser.find_element(By.ID, "status").get_attribute("textContent") == "5 of 10 units"
    births = browser.execute_script("return microscope.layers[1].units.map((unit) => unit.numbers.birth)")
    verdicts = browser.execute_script("return microscope.layers[1].units.map((unit) => unit.verdict)")
    opened(f"#layer=fc&verdict={verdicts[3]}&sort=birth")
    wait_for(browser, lambda: heading(browser) == "fc")
    expected = [births[unit] for unit in range(10) if verdicts[unit] == verdicts[3]]
    known = sorted(one for one in expected if one is not None)
    assert figure_texts() == [f"{one:g}" for one in known] + ["\N{EN DASH}"] * (len(expected) - len(known))
    for kind in ("negative", "examples"):
        browser.find_element(By.XPATH, f"//button[text()='{kind}']").click()
        assert f"show={kind}" in browser.current_url
        assert browser.switch_to.active_element.text == kind
    assert len(browser.find_elements(By.CSS_SELECTOR, ".wall .four .picture")) == 4 * len(expected)


def test_walls_hold_the_tiles_near_the_screen(browser: Any, opened: Callable[[str], None]):
    def shown() -> list[str]:
        tiles = browser.find_elements(By.CSS_SELECTOR, ".wall [data-tile]")
        return [tile.get_attribute("data-tile") for tile in tiles]

    screen = {"width": 300, "height": 460, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        opened("#layer=fc&size=large")
        wait_for(browser, lambda: "0" in shown())
        assert "9" not in shown()
        browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
        wait_for(browser, lambda: "9" in shown())
        assert shown() == list("0123456789")[-len(shown()) :]
        browser.find_element(By.CSS_SELECTOR, '[data-tile="9"]').click()
        wait_for(browser, lambda: heading(browser).startswith("fc:9"))
        browser.back()
        wait_for(browser, lambda: browser.switch_to.active_element.get_attribute("data-tile") == "9")
        press(browser, Keys.ARROW_UP)  # two tiles a row
        assert browser.switch_to.active_element.get_attribute("data-tile") == "7"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_wall_of_two_thousand_units_is_made_in_parts(browser: Any, opened: Callable[[str], None]):
    opened("#layer=fc")
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".wall li")) == 10)
    # The same ten units again and again, with their tiles.
    browser.execute_script("""
        const [layer, data] = [microscope.network.layers[1], microscope.layers[1]];
        data.units = Array.from({ length: 2048 }, (_, index) => ({ ...data.units[index % 10], id: String(index) }));
        for (const sprites of Object.values(layer.sprites)) {
            sprites.files = Array(2048).fill(sprites.files[0]);
            Object.assign(sprites, { rows: 1, columns: 1, count: 2048 });
        }
        window.fills = [];
        const fill = Wall.prototype.fill;
        Wall.prototype.fill = function () {
            const before = this.shown.size;
            fill.call(this);
            fills.push(this.shown.size - before);
        };
        location.hash = "layer=fc&show=examples";
    """)
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".wall .four"))
    for share in (0.5, 1):
        browser.execute_script(f"scrollTo(0, {share} * document.documentElement.scrollHeight)")
        last = str(round(2047 * share))
        wait_for(browser, lambda last=last: browser.find_elements(By.CSS_SELECTOR, f'.wall [data-tile="{last}"]'))
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".wall li")) < 400)
    # No frame makes all the tiles of a screen.
    assert max(browser.execute_script("return fills")) < len(browser.find_elements(By.CSS_SELECTOR, ".wall li"))


def test_the_map_and_a_unit_show_what_is_connected(browser: Any, opened: Callable[[str], None]):
    opened("")
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".flow path")) == 2)
    opened("#layer=fc&unit=3")
    wait_for(browser, lambda: heading(browser).startswith("fc:3"))
    (before,) = browser.find_elements(By.XPATH, "//section[h2[starts-with(., 'Units before it')]]")
    links = before.find_elements(By.TAG_NAME, "a")
    assert sorted(link.find_element(By.CLASS_NAME, "name").text for link in links) == [f"conv:{n}" for n in range(6)]
    first = links[0].find_element(By.CLASS_NAME, "name").text
    links[0].click()
    wait_for(browser, lambda: heading(browser) == first)
    assert browser.find_elements(By.XPATH, "//section[h2[starts-with(., 'Units after it')]]//a")


def test_an_image_that_is_dragged_to_the_bar_is_inspected(browser: Any, opened: Callable[[str], None]):
    opened("#layer=conv&unit=0")
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".examples a[href*=image]"))
    zone = browser.find_element(By.ID, "inspect")
    assert not zone.is_displayed()
    image = browser.find_element(By.CSS_SELECTOR, ".examples a[href*=image]")
    target = image.get_attribute("hash")
    webdriver.ActionChains(browser).click_and_hold(image).move_by_offset(20, 20).pause(0.2).perform()
    wait_for(browser, zone.is_displayed)
    webdriver.ActionChains(browser).move_to_element(zone).release().perform()
    wait_for(browser, lambda: browser.current_url.endswith(target))
    wait_for(browser, lambda: not zone.is_displayed())


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is missing: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Any, opened: Callable[[str], None], scheme: str):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        states = " #layer=conv&show=examples&by=score #layer=fc&unit=3&epoch=0 #layer=conv&unit=3 #image=0"
        for state in states.split(" "):
            opened(state)
            wait_for(browser, lambda: heading(browser))
            browser.execute_script(AXE.read_text())
            run = "axe.run({ preload: false }).then((found) => arguments[0](found.violations))"
            found = browser.execute_async_script(run)
            nodes = [(one["id"], node["html"]) for one in found for node in one["nodes"]]
            assert nodes == [], state
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_an_image_shows_the_units_that_it_excites(browser: Any, opened: Callable[[str], None]):
    opened("#layer=conv&unit=0")
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".examples a"))
    browser.find_element(By.CSS_SELECTOR, ".examples a").click()
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".image .strip a"))
    browser.find_element(By.CSS_SELECTOR, ".image .strip a").click()
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".examples a"))


def test_the_epochs_play_and_stand_side_by_side(browser: Any, opened: Callable[[str], None]):
    opened("#layer=conv&beside=0")
    wait_for(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".wall .pair .picture")) == 12)
    first, second = browser.find_elements(By.CSS_SELECTOR, ".wall .pair .picture")[:2]
    assert "0_picture_0.webp" in first.get_attribute("style")
    assert "0_epoch_0000_0.webp" in second.get_attribute("style")
    note = "() => (window.played ??= new Set()).add(arguments[0].style.backgroundImage)"
    browser.execute_script(f"new MutationObserver({note}).observe(arguments[0], {{ attributes: true }})", first)
    browser.find_element(By.ID, "play").click()
    wait_for(browser, lambda: len(browser.execute_script("return [...(window.played ?? [])]")) == 3)
    files = [f"tiles/0_{kind}_0.webp" for kind in ("epoch_0000", "epoch_0001", "picture")]
    assert browser.execute_script("return [...played]") == [f'url("{file}")' for file in files]
    assert browser.find_element(By.ID, "play").get_attribute("aria-pressed") == "false"


def test_what_is_not_on_the_page_is_said(browser: Any, opened: Callable[[str], None]):
    for state in ("#layer=none", "#layer=conv&unit=99", "#image=9999"):
        opened(state)
        wait_for(browser, lambda: heading(browser) == "Not on this page")


def test_pictures_are_shown_without_javascript(browser: Any, page: str):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page)
        sheets = browser.find_elements(By.TAG_NAME, "img")
        assert [Path(sheet.get_attribute("src")).name for sheet in sheets] == ["conv.png", "fc.png"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
