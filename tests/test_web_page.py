"""The page in a browser: it draws what JAX draws, follows the hand, and asks for nothing but its own files."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from browser import Page, browser, chromium, served
from scipy.special import ndtri

from jax_sngan import export, web_page
from jax_sngan.config import TrainConfig, replace
from jax_sngan.images import to_uint8
from jax_sngan.models import build
from jax_sngan.preset_configs import preset

pytestmark = pytest.mark.long  # its onnxruntime-web comes from npm, once: 33 MB

CLASSES = {
    "model.architecture": "resnet", "model.image_size": 32, "model.channels": 3, "model.num_classes": 10,
    "model.generator_width": 8, "data": "cifar10",
}  # fmt: skip


def untrained(config: TrainConfig, contrast: float) -> export.Trained:
    """Fresh weights, but a first layer that is `contrast` times as large."""
    variables = build(config.model).generator.init(jax.random.key(1))
    variables.params["project"]["kernel"] *= contrast
    return export.Trained(config, 0, jax.tree.map(np.asarray, variables), {"d_loss": 2.0})


@pytest.fixture(scope="module")
def program() -> str:
    found = chromium()
    if found is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    return found


@pytest.fixture(scope="module")
def runs() -> dict[str, export.Trained]:
    fashion = preset("fashion")
    return {"fashion": untrained(fashion, 200), "classes": untrained(replace(fashion, CLASSES), 1)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, export.Trained]) -> Iterator[str]:
    """The address of a folder with two pages: of fashion alone, and of both side by side."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_page, "load_trained", lambda workdir, step: runs[workdir])
        web_page.export_page(["fashion"], folder / "one")
        web_page.export_page(["fashion", "classes"], folder / "two")
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


def latents(page: Page, seed: int, cells: int) -> np.ndarray:
    """float32 [cells, 128]: what the page gives its generator, before anything is moved."""
    code = f"""import("./latents.js").then(({{ latent }}) =>
        Array.from({{ length: {cells} }}, (_, cell) => Array.from(latent({seed}, cell, 128, 3))))"""
    return np.array(page.run(code), np.float32)


def by_jax(one: export.Trained, z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    return np.asarray(to_uint8(one.images(z, labels, "float32"))).astype(int)


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
    for choice, labels in (("", np.arange(9) % 10), ("4", np.full(9, 4))):
        page.run(f"""(() => {{
            document.getElementById("status").textContent = "";
            const choice = document.getElementById("class");
            choice.value = "{choice}";
            choice.onchange();
        }})()""")
        ready(page)
        expected = by_jax(runs["classes"], z, labels.astype(np.int32))
        assert np.abs(drawn(page, 1, 9, 32)[..., :3].astype(int) - expected).max() <= 2
        assert np.abs(drawn(page, 0, 9, 28)[..., :1].astype(int) - by_jax(runs["fashion"], z, None)).max() <= 2
    page.until('location.hash.includes("class=4")')
    names = page.run('[...document.getElementById("class").options].map((o) => o.text)')
    assert (names[0], names[4]) == ("all, in turn", "cat")
    assert page.run('document.querySelectorAll("#table thead td").length') == 2


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


def test_a_finger_a_key_and_a_narrow_screen(page: Page, pages: str) -> None:
    page.size(390, 844, dark=True, touch=True)
    page.open(f"{pages}two/")
    ready(page)
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.run('document.getElementById("pad").scrollIntoView({ block: "center" })')
    x, y, side = page.run("""(() => {
        const box = document.getElementById("pad").getBoundingClientRect();
        return [box.x, box.y, box.width];
    })()""")
    page.finger("touchStart", x + side / 2, y + side / 2)
    page.finger("touchMove", x + side * 0.75, y + side / 2)
    page.finger("touchEnd", 0, 0)
    assert page.run('document.getElementById("pad").ariaValueText') == "across +1.5, up 0.0"
    page.run('document.getElementById("pad").focus()')
    page.key("Home")
    page.key("ArrowUp")
    assert page.run('document.getElementById("pad").ariaValueText') == "across 0.0, up +0.3"
    page.run('document.querySelector("canvas.images").focus()')
    page.key("ArrowRight")
    page.until('location.hash.includes("image=1")')


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


def test_without_webassembly_it_says_so(page: Page, pages: str) -> None:
    page.call("Page.addScriptToEvaluateOnNewDocument", {"source": "delete globalThis.WebAssembly"})
    page.open(f"{pages}one/")
    said = page.until('document.querySelector("#message.problem")?.textContent')
    assert "no WebAssembly" in said
    assert page.run('document.getElementById("main").hidden')
