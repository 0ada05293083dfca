"""The page in a browser: it draws what JAX draws, follows the hand, and asks for nothing but its own files."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from browser import Page, browser, chromium, served
from PIL import Image
from scipy.special import ndtri

from jax_sngan.config.presets import preset
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.pixels import to_uint8
from jax_sngan.export import export, web_page
from jax_sngan.models.network import build
from jax_sngan.runs.great_circles import great_circle

pytestmark = pytest.mark.long  # its onnxruntime-web comes from npm, once: 33 MB

CLASSES = {
    "model.architecture": "resnet", "model.image_size": 32, "model.channels": 3, "model.num_classes": 10,
    "model.generator_width": 8, "data": "cifar10",
}  # fmt: skip


FAMILY = {"dcgan": "Standard GAN", "wgan": "WGAN", "wgan_gp": "WGAN-GP", "sngan": "SN-GAN"}


def untrained(config: TrainConfig, contrast: float, scores: dict[str, float] | None = None) -> export.Trained:
    """Fresh weights, but a first layer that is `contrast` times as large."""
    variables = build(config.model).generator.init(jax.random.key(1))
    variables.params["project"]["kernel"] *= contrast
    return export.Trained(config, 0, jax.tree.map(np.asarray, variables), {"d_loss": 2.0}, scores or {})


@pytest.fixture(scope="module")
def program() -> str:
    found = chromium()
    if found is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    return found


@pytest.fixture(scope="module")
def runs() -> dict[str, export.Trained]:
    fashion, small = preset("fashion"), {"model.generator_width": 2}
    plain = {"fashion": untrained(fashion, 200), "classes": untrained(replace(fashion, CLASSES), 1)}
    family = {
        name: untrained(replace(preset(name), small), 5000 * (k + 1), {"fcd_5k_test": 10.5 + k})
        for k, name in enumerate(FAMILY)
    }
    return plain | family


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, export.Trained]) -> Iterator[str]:
    """The address of a folder with pages: of fashion alone, of it beside one with classes, and of the family."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_page, "open_workdir", lambda workdir: None)
        patch.setattr(web_page, "load_trained", lambda workdir, step, standing: runs[workdir])
        web_page.export_page(["fashion"], folder / "one")
        web_page.export_page(["fashion", "classes"], folder / "two")
        web_page.export_page(list(FAMILY), folder / "four")
    with served(folder) as address:
        yield address


@pytest.fixture
def page(program: str, tmp_path: Path) -> Iterator[Page]:
    with browser(program, tmp_path) as page:
        page.size(1280, 900)
        yield page


def ready(page: Page) -> None:
    page.until('document.getElementById("status")?.textContent.includes(" ms")')


def drawn(page: Page, gallery: int, cells: int, size: int) -> np.ndarray:
    """uint8 [cells, size, size, 4]: the first images of a grid, as they stand on its canvas."""
    return np.array(
        page.run(f"""(() => {{
            const canvas = document.querySelectorAll("canvas.images")[{gallery}];
            const side = Math.round((canvas.width + 2) / ({size} + 2));
            return Array.from({{ length: {cells} }}, (_, i) => Array.from(canvas.getContext("2d").getImageData(
                (i % side) * ({size} + 2), Math.floor(i / side) * ({size} + 2), {size}, {size}).data));
        }})()"""),
        np.uint8,
    ).reshape(cells, size, size, 4)


def latents(page: Page, seed: int, cells: int, truncation: float = 3) -> np.ndarray:
    """float32 [cells, 128]: what the page gives its generator, before anything is moved."""
    code = f"""import("./latents.js").then(({{ latent }}) =>
        Array.from({{ length: {cells} }}, (_, cell) => Array.from(latent({seed}, cell, 128, {truncation}))))"""
    return np.array(page.run(code), np.float32)


def by_jax(one: export.Trained, z: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    return np.asarray(to_uint8(one.images(z, labels, "float32"))).astype(int)


def pixels(page: Page, canvas: str) -> np.ndarray:
    """uint8 [h, w, 4] of a canvas; canvas: an expression."""
    h, w, values = page.run(f"""(() => {{
        const canvas = {canvas};
        const {{ data }} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, Array.from(data)];
    }})()""")
    return np.array(values, np.uint8).reshape(h, w, 4)


def comes_to_show(look: Callable[[], np.ndarray], expected: np.ndarray) -> None:
    """Waits until what is drawn is JAX's images within 2 of 255."""
    end = time.monotonic() + 30
    while np.abs((found := look()).astype(int) - expected).max() > 2:
        assert time.monotonic() < end, f"{np.abs(found.astype(int) - expected).max()} of 255 apart"
        time.sleep(0.05)


def first(page: Page, cells: int) -> np.ndarray:
    """[cells, 28, 28, 1]: the grid of fashion."""
    return drawn(page, 0, cells, 28)[..., :1]


def button(text: str) -> str:
    return f'[...document.querySelectorAll("button")].find((b) => b.textContent === "{text}")'


def id_of(name: str) -> str:
    return f'document.getElementById("{name}")'


def choose(page: Page, cell: int, tap: bool = False) -> None:
    """A click or a tap on an image of the first grid."""
    side = page.run('Math.round((document.querySelector("canvas.images").width + 2) / 30)')
    row, column = divmod(cell, side)
    act = page.tap if tap else page.click
    act('document.querySelector("canvas.images")', (column + 0.5) / side, (row + 0.5) / side)


def test_it_draws_what_jax_draws(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}one/#seed=7")
    ready(page)
    expected = by_jax(runs["fashion"], latents(page, 7, 16), None)
    assert np.std(expected) > 10
    found = drawn(page, 0, 16, 28)
    assert np.abs(found[..., :1].astype(int) - expected).max() <= 2
    assert (found[..., 3] == 255).all()
    assert [a for a in page.asked_for() if not a.startswith((pages, "about:", "blob:"))] == []
    assert page.run('document.getElementById("message").hidden')


def test_classes_and_colours(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}two/#seed=3")
    ready(page)
    z = latents(page, 3, 9)
    expected = by_jax(runs["classes"], z, np.arange(9, dtype=np.int32))
    comes_to_show(lambda: drawn(page, 1, 9, 32)[..., :3], expected)
    comes_to_show(lambda: first(page, 9), by_jax(runs["fashion"], z))
    names = page.run('[...document.getElementById("class").options].map((o) => o.text)')
    assert (names[0], names[4]) == ("all, in turn", "cat")
    page.run('document.getElementById("class").focus()')
    page.key("ArrowDown", 4)
    page.until('location.hash.includes("class=3")')
    comes_to_show(lambda: drawn(page, 1, 9, 32)[..., :3], by_jax(runs["classes"], z, np.full(9, 3, np.int32)))
    comes_to_show(lambda: first(page, 9), by_jax(runs["fashion"], z))
    assert page.run('document.querySelectorAll("#table thead td").length') == 2
    page.open(f"{pages}two/#seed=3&class=99")  # of a page with more classes
    ready(page)
    assert page.run('document.getElementById("class").selectedOptions[0].text') == "all, in turn"


def test_the_family_side_by_side(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}four/#seed=5")
    ready(page)
    z = latents(page, 5, 4)
    for k, name in enumerate(FAMILY):
        expected = by_jax(runs[name], z)
        assert np.std(expected) > 5
        comes_to_show(lambda k=k: drawn(page, k, 4, 28)[..., :1], expected)
    table = page.run(
        '[...document.querySelectorAll("#table tr")].map((r) => [...r.cells].map((c) => c.firstChild?.data))'
    )
    assert table[0][1:] == list(FAMILY.values())
    assert ["fcd_5k_test", "10.5", "11.5", "12.5", "13.5"] in table
    assert page.run('[...document.querySelectorAll(".card h3")].map((h) => h.firstChild.data)') == list(FAMILY.values())
    for width in (320, 390, 768):
        page.size(width, 844, touch=True)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_dragging_redraws_at_once_and_the_link_shows_the_same(page: Page, pages: str) -> None:
    page.open(f"{pages}one/#seed=7")
    ready(page)
    before = drawn(page, 0, 4, 28)
    page.run("""window.times = [];
        new PerformanceObserver((list) => times.push(...list.getEntriesByName("redraw").map((e) => e.duration)))
            .observe({ entryTypes: ["measure"] })""")
    x, y, side = page.run("""(() => {
        const box = document.getElementById("pad").getBoundingClientRect();
        return [box.x, box.y, box.width];
    })()""")
    page.pointer("mousePressed", x + side / 2, y + side / 2)
    for share in np.linspace(0.5, 0.9, 25):
        page.pointer("mouseMoved", x + side * share, y + side / 4)
        page.run("new Promise(requestAnimationFrame)")
    page.pointer("mouseReleased", x + side * 0.9, y + side / 4)
    page.run("new Promise((done) => setTimeout(done, 600))")  # the address follows once the hand rests
    times = page.run("times")
    assert len(times) > 5
    assert np.median(times) < 100, times
    amounts = [float(a) for a in page.run("location.hash").split("&d=")[1].split("&")[0].split(",")]
    np.testing.assert_allclose(amounts[:2], [2.4, 1.5], atol=0.05)  # 0.9 and 1/4 of a pad from -3 to 3
    moved = drawn(page, 0, 4, 28)
    assert not np.array_equal(moved, before)
    shared = page.run("location.href")
    page.open(shared)
    ready(page)
    np.testing.assert_array_equal(drawn(page, 0, 4, 28), moved)


def test_keys_alone_reach_every_control(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    one = runs["fashion"]
    page.open(f"{pages}one/#seed=7")
    ready(page)
    for _ in range(40):  # Tab, as a person without a mouse
        page.key("Tab")
        if page.run('document.activeElement.getAttribute("aria-label") === "Direction 3"'):
            break
    page.key("ArrowRight", 4)
    page.until('location.hash.includes("d=0,0,0.2")')
    moved = latents(page, 7, 4) + 0.2 * web_page.directions(one)[2]
    comes_to_show(lambda: first(page, 4), by_jax(one, moved.astype(np.float32)))
    page.key("ArrowLeft", 4)
    comes_to_show(lambda: first(page, 4), by_jax(one, latents(page, 7, 4)))

    page.run('document.getElementById("truncation").focus()')
    page.key("Home")
    page.until('location.hash.includes("truncation=0.2")')
    cut = latents(page, 7, 4, 0.2)
    assert np.abs(cut).max() <= 0.2
    comes_to_show(lambda: first(page, 4), by_jax(one, cut))
    page.key("End")
    page.until('!location.hash.includes("truncation")')

    page.run('document.getElementById("seed").select()')
    for key in ("4", "2", "Enter"):
        page.key(key)
    page.until('location.hash.includes("seed=42&")')
    comes_to_show(lambda: first(page, 4), by_jax(one, latents(page, 42, 4)))

    page.run('document.getElementById("pad").focus()')
    page.key("Home")
    page.key("ArrowUp")
    assert page.run('document.getElementById("pad").ariaValueText') == "across 0.0, up +0.3"
    page.key("Home")
    page.run('document.querySelector("canvas.images").focus()')
    page.key("ArrowRight", 2)
    page.key("ArrowDown")
    side = page.run('Math.round((document.querySelector("canvas.images").width + 2) / 30)')
    page.until(f'location.hash.includes("image={side + 2}")')
    large = 'document.querySelector(".side canvas")'
    chosen = by_jax(one, latents(page, 42, side + 3))[-1]
    comes_to_show(lambda: pixels(page, large)[..., :1], chosen)


def test_a_walk_between_two_chosen_images(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}one/#seed=7")
    ready(page)
    for cell, end in ((2, "Start here"), (9, "End here")):
        choose(page, cell)
        page.click(button(end))
    page.until('location.hash.includes("walk=2,9")')
    a, b = (latents(page, 7, 10)[k][None] for k in (2, 9))
    walk = by_jax(runs["fashion"], np.concatenate([great_circle(a, b, s) for s in np.linspace(0, 1, 9)]))

    def frames() -> np.ndarray:
        strip = pixels(page, 'document.querySelector("canvas.frames")')
        return np.stack([strip[:, 30 * i : 30 * i + 28, :1] for i in range(9)])

    page.until('document.querySelector("canvas.frames").height === 28')
    comes_to_show(frames, walk)
    ends = by_jax(runs["fashion"], np.concatenate([a, b]))
    np.testing.assert_allclose(walk[[0, -1]], ends, atol=1)
    assert np.abs(walk[4] - walk[[0, -1]]).mean() > 1

    here = 'document.querySelector("canvas.here")'
    page.run('document.getElementById("walk-position").focus()')
    page.key("End")
    comes_to_show(lambda: pixels(page, here)[..., :1], walk[-1])
    page.click(id_of("walk-position"))
    share = page.run('Number(document.getElementById("walk-position").value)')
    assert 0.45 < share < 0.55
    comes_to_show(lambda: pixels(page, here)[..., :1], by_jax(runs["fashion"], great_circle(a, b, share))[0])
    page.run('document.getElementById("walk-play").focus()')
    page.key("Space")
    assert page.run('document.getElementById("walk-play").ariaPressed') == "true"
    page.until(f'Math.abs(document.getElementById("walk-position").value - {share}) > 0.05')
    page.key("Space")
    page.until('document.getElementById("walk-play").textContent === "Play"')


def test_a_png_holds_the_pixels_that_are_shown(page: Page, pages: str, tmp_path: Path) -> None:
    page.downloads(tmp_path / "saved")
    page.open(f"{pages}two/#seed=7&image=3")
    ready(page)
    for name, size, cards in (("fashion", 28, 0), ("classes", 32, 1)):
        for what, canvas in (("image", ".side canvas"), ("grid", "canvas.images")):
            shown = pixels(page, f'document.querySelectorAll(".card")[{cards}].querySelector("{canvas}")')
            page.click(f'document.querySelectorAll(".card")[{cards}].querySelectorAll("button")[{int(what == "grid")}]')
            path = tmp_path / "saved" / f"{name}_seed7_{what}.png"
            end = time.monotonic() + 30
            while not path.exists():
                assert time.monotonic() < end, list((tmp_path / "saved").glob("*"))
                time.sleep(0.05)
            with Image.open(path) as picture:
                assert picture.format == "PNG"
                found = np.asarray(picture.convert("RGBA"))
            scale = len(found) // len(shown)
            assert len(found) >= 512
            np.testing.assert_array_equal(found, shown.repeat(scale, 0).repeat(scale, 1))
            assert len(shown) == size if what == "image" else len(shown) > 3 * size
            assert np.std(shown[..., 0]) > 1


def test_the_copied_link_is_that_of_the_page(page: Page, pages: str) -> None:
    page.open(f"{pages}one/#seed=7")
    ready(page)
    values = {"origin": pages.rstrip("/"), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.call("Browser.grantPermissions", values, of_page=False)
    page.run('document.getElementById("status").textContent = ""')
    choose(page, 5)
    ready(page)  # else what the drawing took is said over what is said of the link
    page.click(id_of("share"))
    said = page.until('document.getElementById("status").textContent.includes("link is copied")')
    assert said
    link = page.run("navigator.clipboard.readText()")
    assert link == page.run("location.href")
    assert "seed=7" in link
    assert "image=5" in link


def test_fingers_and_a_narrow_screen(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.size(390, 844, dark=True, touch=True)
    page.open(f"{pages}two/")
    ready(page)
    assert page.run("document.documentElement.scrollWidth") <= 390
    pad = id_of("pad")
    page.finger("touchStart", *page.at(pad))
    page.finger("touchMove", *page.at(pad, across=0.75))
    page.finger("touchEnd", 0, 0)
    assert page.run('document.getElementById("pad").ariaValueText') == "across +1.5, up 0.0"
    page.tap(id_of("centre"))
    page.until('document.getElementById("pad").ariaValueText === "across 0.0, up 0.0"')
    slider = 'document.querySelectorAll("#sliders input")[1]'
    page.finger("touchStart", *page.at(slider))
    for share in (0.6, 0.7, 0.8):
        page.finger("touchMove", *page.at(slider, across=share))
    page.finger("touchEnd", 0, 0)
    amount = page.run(f"Number({slider}.value)")
    assert 1.5 < amount < 2.2  # 0.8 of -3 to 3, less the thumb's own width
    z = latents(page, 0, 4) + amount * web_page.directions(runs["fashion"])[1]
    comes_to_show(lambda: first(page, 4), by_jax(runs["fashion"], z.astype(np.float32)))
    choose(page, 6, tap=True)
    page.until('location.hash.includes("image=6")')


def test_latents_are_normal(page: Page, pages: str) -> None:
    page.open(f"{pages}one/")
    ready(page)
    shares = [1e-9, 0.001, 0.02425, 0.3, 0.5, 0.9, 0.9999]
    found = page.run(f'import("./latents.js").then(({{ quantile }}) => {shares}.map(quantile))')
    np.testing.assert_allclose(found, ndtri(shares), rtol=2e-9, atol=1e-12)
    z = latents(page, 0, 36)
    assert abs(z.mean()) < 0.06  # four standard errors of 4,608 numbers
    assert abs(z.std() - 1) < 0.05
    assert abs(np.corrcoef(z.reshape(-1)[:-1], z.reshape(-1)[1:])[0, 1]) < 0.06
    cut = page.run('import("./latents.js").then(({ latent }) => Array.from(latent(0, 0, 128, 0.5)))')
    assert 0.45 < np.abs(cut).max() <= 0.5


def test_without_webassembly_it_says_so(program: str, pages: str, tmp_path: Path) -> None:
    with browser(program, tmp_path, ["--js-flags=--jitless"]) as page:  # as Chromium's switch against optimisers does
        page.size(1280, 900)
        page.open(f"{pages}one/")
        said = page.until('document.querySelector("#message.problem")?.textContent')
        assert page.run("typeof WebAssembly") == "undefined"
        assert "no WebAssembly" in said
        assert page.run('document.getElementById("main").hidden')


def test_without_vector_instructions_it_says_so(page: Page, pages: str) -> None:
    page.call("Page.addScriptToEvaluateOnNewDocument", {"source": "WebAssembly.validate = () => false"})
    page.open(f"{pages}one/")
    assert "too old" in page.until('document.querySelector("#message.problem")?.textContent')
