"""The page in a browser: it draws what JAX draws, follows the hand, and asks for nothing but its own files."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from browser import Page, browser, chromium, served
from PIL import Image
from scipy.special import ndtri

from jax_sngan.config.class_names import text_of
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


MARKUP = '<img src=x onerror="window.hurt = 1">'  # a class called so
FAMILY = {"dcgan": "Standard GAN", "wgan": "WGAN", "wgan_gp": "WGAN-GP", "sngan": "SN-GAN"}


def untrained(config: TrainConfig, contrast: float, scores: dict[str, float] | None = None) -> export.Trained:
    """Fresh weights, but a first layer, or an mlp's last, that is `contrast` times as large."""
    variables = build(config.model).generator.init(jax.random.key(1))
    variables.params["to_image" if config.model.is_points else "project"]["kernel"] *= contrast
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
    named = replace(fashion, small | {"model.num_classes": 10, "class_names": text_of((*"abc", MARKUP, *"efghij"))})
    return plain | family | {"points": untrained(preset("points"), 8), "names": untrained(named, 1)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, export.Trained]) -> Iterator[str]:
    """The address of a folder with pages: fashion alone, beside one with classes, the family, points, hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_page, "open_workdir", lambda workdir: None)
        patch.setattr(web_page, "load_trained", lambda workdir, step, standing: runs[workdir])
        web_page.export_page(["fashion"], folder / "one")
        web_page.export_page(["fashion", "classes"], folder / "two")
        web_page.export_page(list(FAMILY), folder / "four")
        web_page.export_page(["points"], folder / "plane")
        web_page.export_page(["names"], folder / "names")
    (told,) = json.loads((folder / "names" / "models.json").read_text())
    told |= dict.fromkeys(("name", "gan", "preset", "loss", "runtime"), MARKUP) | {"scores": {MARKUP: 1.5}}
    (folder / "names" / "models.json").write_text(json.dumps([told]))
    with served(folder) as address:
        yield address


@pytest.fixture
def page(program: str, tmp_path: Path) -> Iterator[Page]:
    with browser(program, tmp_path) as page:
        page.size(1280, 900)
        yield page


def ready(page: Page) -> None:
    page.until('document.getElementById("speed")?.textContent.includes(" ms")')


def drawn(page: Page, gallery: int, cells: int, size: int) -> np.ndarray:
    """uint8 [cells, size, size, 4]: the first images of a grid, as they stand on its canvas."""
    return np.array(
        page.run(f"""(() => {{
            const canvas = document.querySelectorAll("canvas.images")[{gallery}];
            const side = Math.round((canvas.width + 1) / ({size} + 1));
            return Array.from({{ length: {cells} }}, (_, i) => Array.from(canvas.getContext("2d").getImageData(
                (i % side) * ({size} + 1), Math.floor(i / side) * ({size} + 1), {size}, {size}).data));
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


LARGE = 'document.getElementById("large")'


def id_of(name: str) -> str:
    return f'document.getElementById("{name}")'


def choose(page: Page, cell: int, tap: bool = False) -> None:
    """A click or a tap on an image of the first grid, once it is drawn: a busy machine's grid may become smaller."""
    page.until('document.getElementById("stage").ariaBusy === "false"')
    side = page.run('Math.round((document.querySelector("canvas.images").width + 1) / 29)')
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
    assert page.run('document.querySelectorAll("#table thead th").length') == 2
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
    assert table[0] == list(FAMILY.values())
    assert table[1:3] == [["Fréchet distance"], ["10.5", "11.5", "12.5", "13.5"]]
    assert "d_loss" not in page.run("document.body.textContent")
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
    side = page.run('Math.round((document.querySelector("canvas.images").width + 1) / 29)')
    page.until(f'location.hash.includes("image={side + 2}")')
    chosen = by_jax(one, latents(page, 42, side + 3))[-1]
    comes_to_show(lambda: pixels(page, LARGE)[..., :1], chosen)

    page.run('document.getElementById("tab-explore").focus()')
    page.key("ArrowRight")
    page.until('!document.getElementById("walk").hidden && location.hash.includes("view=walk")')
    page.key("ArrowLeft", 2)  # round to the last
    page.until('!document.getElementById("scores").hidden && document.activeElement.id === "tab-scores"')


def test_a_walk_between_two_chosen_images(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}one/#seed=7")
    ready(page)
    page.click(id_of("tab-walk"))
    for cell in (2, 9):  # the start, and then the end
        choose(page, cell)
    page.until('location.hash.includes("walk=2,9")')
    page.run('document.querySelector("canvas.images").focus()')
    page.key("ArrowLeft", 2)  # to 7
    page.key("Enter")
    page.until('location.hash.includes("walk=7,9")')
    page.click(id_of("walk-start"))
    choose(page, 2)
    page.until('location.hash.includes("walk=2,9")')
    a, b = (latents(page, 7, 10)[k][None] for k in (2, 9))
    walk = by_jax(runs["fashion"], np.concatenate([great_circle(a, b, s) for s in np.linspace(0, 1, 9)]))

    def frames() -> np.ndarray:
        strip = pixels(page, 'document.querySelector("canvas.frames")')
        return np.stack([strip[:, 29 * i : 29 * i + 28, :1] for i in range(9)])

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
    page.open(f"{pages}two/#seed=7")
    ready(page)
    for k, (name, size) in enumerate((("fashion", 28), ("classes", 32))):
        page.click(f'document.querySelectorAll("canvas.images")[{k}]', 0.1, 0.1)
        page.until(f'document.getElementById("large").width === {size}')
        page.run("new Promise((done) => setTimeout(done, 500))")  # the grid's size may still follow the machine's
        for what, canvas in (("image", LARGE), ("grid", f'document.querySelectorAll("canvas.images")[{k}]')):
            shown = pixels(page, canvas)
            page.click(id_of(f"save-{what}"))
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
    width = page.box(slider)[2]
    thumb = 19.2  # its middle goes from half of it to half of it before the end
    assert amount == pytest.approx(6 * (0.8 * width - thumb / 2) / (width - thumb) - 3, abs=0.15)
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


SIZES = {"wide": (1280, 800), "smaller": (1024, 768), "phone": (390, 844), "phone on its side": (844, 390)}
ALL_OVER = [(across, down) for across in (0.05, 0.5, 0.95) for down in (0.05, 0.5, 0.95)]


def every(selector: str) -> list[str]:
    """Expressions of the first 40 elements of a selector; those that are not there are undefined."""
    return [f'document.querySelectorAll("{selector}")[{i}]' for i in range(40)]


def missed(page: Page, elements: list[str], places: list[tuple[float, float]]) -> list[tuple[str, float, float]]:
    """Which places of shown elements a pointer does not meet, in the window as it stands."""
    shown = [e for e in elements if page.run(f"Boolean({e}?.checkVisibility())")]
    assert shown
    return [(element, *place) for element in shown for place in places if not page.hit(element, *place)]


def value(page: Page, element: str) -> float:
    return page.run(f"Number({element}.value)")


def drag_to_the_end(page: Page, slider: str, *, finger: bool = False) -> None:
    """From where its thumb is to its right end, by the places in the window where they are."""
    left, top, width, height = page.box(slider)
    share = page.run(f"(({slider}.value - {slider}.min) / ({slider}.max - {slider}.min))")
    thumb = 19.2  # its width: its middle goes from half of it to half of it before the end
    page.drag(
        (left + thumb / 2 + share * (width - thumb), top + height / 2), (left + width, top + height / 2), finger=finger
    )


@pytest.mark.parametrize("of", ["one", "four", "plane"])
@pytest.mark.parametrize("size", SIZES)
def test_what_changes_together_is_on_the_screen_together(page: Page, pages: str, size: str, of: str) -> None:
    width, height = SIZES[size]
    finger = min(width, height) < 500
    page.size(width, height, touch=finger)
    page.open(f"{pages}{of}/#seed=7")
    ready(page)
    sides = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight, scrollX, scrollY]"
    assert page.run(sides) == [width, height, 0, 0]
    images = every("canvas.images")
    assert missed(page, images, ALL_OVER) == []
    assert missed(page, [*every("#tabs button"), id_of("new-images"), id_of("share")], [(0.5, 0.5)]) == []

    # Explore: all is seen at once, without scrolling; of several on a phone the last rows after some.
    assert missed(page, [id_of("pad")], ALL_OVER) == []
    if (size, of) != ("phone", "four"):
        assert missed(page, every(".direction input"), [(0.02, 0.5), (0.98, 0.5)]) == []
        assert missed(page, every(".thumbnail"), [(0.5, 0.5)]) == []
    last = page.run('document.querySelectorAll(".direction").length') - 1
    slider = f'document.querySelectorAll(".direction input")[{last}]'
    drag_to_the_end(page, slider, finger=finger)
    assert value(page, slider) == 3
    assert missed(page, [*images, *every(f".direction:nth-child({last + 1}) *")], [(0.5, 0.5)]) == []

    # Walk: its slider goes from one end to the other, and every strip stays in sight.
    (page.tap if finger else page.click)(id_of("tab-walk"))
    page.until('document.getElementById("walk").checkVisibility()')
    page.run("new Promise((done) => setTimeout(done, 600))")
    strips = [*every(".here"), *(every(".frames") if of != "plane" else [])]
    together = [*images, *strips, id_of("walk-start"), id_of("walk-end"), id_of("walk-play")]
    assert missed(page, together, [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)]) == []
    position = id_of("walk-position")
    assert missed(page, [position], [(0.01, 0.5), (0.5, 0.5), (0.99, 0.5)]) == []
    drag_to_the_end(page, position, finger=finger)
    assert value(page, position) == 1
    assert missed(page, together, [(0.5, 0.5)]) == []
    assert page.run(sides) == [width, height, 0, 0]


def test_a_thumbnail_shows_what_its_end_does(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}one/#seed=7&image=2&d=0,0.5")
    ready(page)
    one = runs["fashion"]
    steep = web_page.directions(one)
    for k, end in ((0, -3), (0, 3), (3, 3)):
        amounts = np.array([0, 0.5, *[0] * 6])
        amounts[k] = end
        z = (latents(page, 7, 3)[2:] + amounts @ steep).astype(np.float32)
        thumbnail = f'document.querySelectorAll(".thumbnail")[{2 * k + (end > 0)}]'
        page.until(f"{thumbnail}.width === 28")
        comes_to_show(lambda t=thumbnail: pixels(page, t)[..., :1], by_jax(one, z)[0])
    page.click('document.querySelectorAll(".thumbnail")[7]')  # it leads there
    assert value(page, 'document.querySelectorAll(".direction input")[3]') == 3
    comes_to_show(lambda: pixels(page, LARGE)[..., :1], by_jax(one, z)[0])


def test_one_image_is_pinned_changed_alone_and_put_back(
    page: Page, pages: str, runs: dict[str, export.Trained]
) -> None:
    one = runs["fashion"]
    steep = web_page.directions(one)[2]
    slider = 'document.querySelectorAll(".direction input")[2]'
    page.open(f"{pages}one/#seed=7")
    ready(page)
    z = latents(page, 7, 9)
    choose(page, 5)
    page.click(id_of("pin"))
    drag_to_the_end(page, slider)
    page.until('location.hash.includes("pin=5,7,3,,0,0,3,")')
    alone = z.copy()
    alone[5] += 3 * steep
    comes_to_show(lambda: first(page, 9), by_jax(one, alone))  # it alone has changed

    choose(page, 1)
    assert value(page, slider) == 0
    drag_to_the_end(page, slider)
    others = z + 3 * steep
    others[5] = alone[5]
    comes_to_show(lambda: first(page, 9), by_jax(one, others.astype(np.float32)))
    page.run('document.getElementById("seed").select()')
    for key in ("4", "2", "Enter"):
        page.key(key)
    page.until('location.hash.includes("seed=42&")')
    new = latents(page, 42, 9) + 3 * steep
    new[5] = alone[5]  # which keeps still
    comes_to_show(lambda: first(page, 9), by_jax(one, new.astype(np.float32)))

    shared = page.run("location.href")
    page.open(shared)
    ready(page)
    comes_to_show(lambda: first(page, 9), by_jax(one, new.astype(np.float32)))
    choose(page, 5)
    page.until('document.getElementById("pin").textContent === "Put back"')
    page.click(id_of("pin"))
    page.until('!location.hash.includes("pin=")')
    comes_to_show(lambda: first(page, 9), by_jax(one, (latents(page, 42, 9) + 3 * steep).astype(np.float32)))


def test_points_of_the_plane_are_where_jax_has_them(page: Page, pages: str, runs: dict[str, export.Trained]) -> None:
    page.open(f"{pages}plane/#seed=7")
    ready(page)
    one = runs["points"]
    z = np.array(
        page.run("""import("./latents.js").then(({ latent }) =>
        Array.from({ length: 900 }, (_, cell) => Array.from(latent(7, cell, 2, 3))))"""),
        np.float32,
    )
    plane = 'document.querySelector("canvas.plane")'

    def chosen_where_it_is(z: np.ndarray) -> None:
        places = one.images(z, None, "float32").reshape(-1, 2)
        away = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(len(z))
        away[np.abs(places).max(1) > 2.1] = 0  # out of sight
        loneliest = int(away.min(1).argmax())
        across, up = ((places[loneliest] / 2.2 + 1) / 2).tolist()  # from -2.2 to 2.2
        page.click(plane, across, 1 - up)
        page.until(f'location.hash.includes("image={loneliest}&")')

    chosen_where_it_is(z)
    page.run('document.getElementById("pad").focus()')
    page.key("ArrowRight", 2)
    page.until('location.hash.includes("d=0.5,0&")')
    page.run("new Promise((done) => setTimeout(done, 300))")
    chosen_where_it_is(z + 0.5 * web_page.directions(one)[0].astype(np.float32))
    assert page.run('document.getElementById("caption").textContent').startswith("Point ")


def test_names_are_text_and_never_markup(page: Page, pages: str) -> None:
    page.open(f"{pages}names/#seed=7&class=3")
    ready(page)
    for tab in ("walk", "scores", "explore"):
        page.click(id_of(f"tab-{tab}"))
        page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run('document.getElementById("class").selectedOptions[0].text') == MARKUP
    assert page.run('document.getElementById("caption").textContent') == f"Image 1 · {MARKUP}"
    text = page.run('document.body.textContent + document.title + document.getElementById("title").textContent')
    assert text.count(MARKUP) >= 6  # as a class, a title, a GAN, a loss, a score and a runtime
    assert page.run('document.querySelectorAll("img, body script:not(:first-of-type), [onerror]").length') == 0
    assert page.run("window.hurt === undefined")
