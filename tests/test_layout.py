"""The house keeps its shape: imports go down only, the wings do not import each other, twins have the same names."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A file imports only from files of a lower tier. A new file gets its place here.
LAYOUT = [
    ["terminal"],
    # 1: mathematics and helpers that need nothing of ours
    [
        "errors",
        "accelerators/__init__",
        "accelerators/environment",
        "accelerators/hlo",
        "accelerators/check_page",
        "allocator",
        "benchmark_side",
        "cache_folder",
        "flops",
        "images",
        "jax_internals",
        "losses",
        "machine",
        "mixtures",
        "noise",
        "out_of_memory",
        "penalties",
        "plain_pickle",
        "stacked",
        "stopping",
        "nn/__init__",
        "nn/activations",
        "nn/layer_norm",
        "nn/operator_norm",
        "nn/platforms",
        "nn/resample",
        "nn/sums",
    ],
    [
        "accelerators/cost",
        "accelerators/targets",
        "accelerators/carried",
        "files",
        "options",
        "budget",
        "provenance",
        "regular",
        "nn/winograd",
        "metrics/coverage",
        "metrics/divergences",
        "metrics/frechet",
        "metrics/inception_network",
        "metrics/inception_score",
        "metrics/kernel",
        "metrics/onnx_features",
    ],
    # 3: the options; files and archives
    [
        "lock",
        "manifest",
        "nn/conv",
        "accelerators/check",
        "archives",
        "processes",
        "compilation_cache",
        "config",
        "downloads",
        "metrics/extrapolation",
        "metrics/intra_class",
        "metrics/manifold",
        "metrics/modes",
        "metrics/path_length",
        "image_cost",
        "torch_file",
    ],
    ["npz", "resize"],
    # 4: one subject each
    [
        "augment",
        "checkpoint_steps",
        "kept_arrays",
        "metrics/__init__",
        "metrics/inception",
        "optim",
        "ort_web",
        "precision",
        "preset_configs",
        "protocols",
        "streams",
        "nn/spectral_norm",
        "nn/batch_norm",
        "nn/dropout",
        "nn/finer",
        "nn/resampled_conv",
    ],
    [
        "nn/batched_spectral_norm",
        "arithmetic",
        "benchmark_plan",
        "checkpoint_items",
        "inputs",
        "image_files",
        "originals",
        "pictures",
        "run_log",
        "workdir",
    ],
    ["folders"],
    # 7: what puts a few of those together
    [
        "accelerators/check_plan",
        "benchmark_run",
        "curves",
        "data",
        "loop",
        "sharding",
        "nn/layers",
        "nn/normalization",
        "metrics/small_cnn",
    ],
    # 8: the networks, from a block to the pair
    ["nn/blocks", "command_line", "metrics/classifier", "accelerators/compiled"],
    ["models/standard_cnn", "models/resnet", "models/mlp", "metrics/extractors", "accelerators/report"],
    ["models/__init__", "metrics/reference", "accelerators/table"],
    # 11: what a step reads and writes; the step; what is done with the state
    ["state", "lipschitz_lower", "lipschitz_upper", "metrics/scores", "onnx_graph", "stablehlo"],
    ["update", "checkpoint", "convert", "lipschitz"],
    ["foreign", "sample", "accelerators/compile_step"],
    ["subjects"],
    ["evaluate"],
    # 16: the loop, and the package's own names
    ["accelerators/measured", "train", "benchmark", "recording", "adoption", "certify", "export", "study/plan"],
    ["accelerators/check_stages", "replay", "web_page", "study/folder", "study/summary"],
    # 18: the GAN family side by side
    ["study/training", "study/critics", "study/figures"],
    ["study/page"],
    ["study/run", "study/__init__"],
    ["__init__"],
]
TIERS = {module: tier for tier, row in enumerate(LAYOUT) for module in row}

# The mathematics. Each has its twin of the same name in torch_ref/, with the same public classes and functions.
TWINS = [
    "augment",
    "images",
    "losses",
    "noise",
    "optim",
    "penalties",
    "update",
    "nn/activations",
    "nn/conv",
    "nn/dropout",
    "nn/layer_norm",
    "nn/normalization",
    "nn/operator_norm",
    "nn/resample",
    "nn/spectral_norm",
    "nn/batch_norm",
    "nn/layers",
    "nn/blocks",
    "models/standard_cnn",
    "models/resnet",
    "models/mlp",
]
# (file, names) that one wing has and the other does not, each with the reason.
ONLY_IN_JAX = {
    # Gradients in the forms that XLA runs well; torch's convolutions bring their own.
    "nn/conv": {
        "algorithm",
        "choose_form",
        "columns_kernel_gradient",
        "exact_sums",
        "matmul_conv",
        "plain_conv",
        "plain_input_gradient",
        "plain_kernel_gradient",
        "slices_kernel_gradient",
        "subpixel_input_gradient",
        "summed_conv",
        "turned",
        "winograd_conv",
        "winograd_input_gradient",
        "winograd_kernel_gradient",
    },
    # The reference's layer is torch.nn.utils.spectral_norm itself.
    "nn/spectral_norm": {"SpectralNorm", "SpectralStat"},
    # Torch's precision is a flag of the process, which is set once.
    "nn/operator_norm": {"largest_singular_value"},
    # Kernels are normalised for a pass as a whole; torch's layers each do it themselves.
    "nn/layers": {"hold", "iterate"},
    # Adam's direction is a pure function here and an Optimizer there.
    "optim": {"adam_direction"},
    # Several steps in one program; eager torch has no program to put them in.
    "update": {"training_steps"},
}
ONLY_IN_TORCH = {
    # Puts torch's own on a layer; and what a batch in parts needs of it, where ours has Network.iterate and `hold`.
    "nn/spectral_norm": {"add_spectral_norm", "held", "load_spectral_state", "spectral_state"},
    "optim": {"AdamEpsilonHat", "adam"},  # the optimisers that adam_direction is compared with
}

JAX_STACK = ("jax", "jaxlib", "flax", "optax", "orbax")


def modules(package: str) -> list[str]:
    """Paths of a package's files below it, without `.py`."""
    return sorted(str(p.relative_to(ROOT / package).with_suffix("")) for p in (ROOT / package).rglob("*.py"))


def dotted(package: str, module: str) -> str:
    """`nn/conv` -> `jax_sngan.nn.conv`; `nn/__init__` -> `jax_sngan.nn`."""
    return ".".join([package, *module.split("/")]).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Every module that a file's import statements name, wherever they stand in it.

    `from a import b` yields `a.b` where that is a file of this repository, else `a`.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.relative_to(ROOT)}:{node.lineno}: write the whole name of the module"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                base = ROOT / submodule.replace(".", "/")
                is_file = base.with_suffix(".py").exists() or (base / "__init__.py").exists()
                found.add(submodule if is_file else str(node.module))
    return found


def roots(names: set[str]) -> set[str]:
    """First parts of dotted names."""
    return {name.partition(".")[0] for name in names}


def public_names(path: Path) -> set[str]:
    """The classes and functions that a file itself defines for others."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {n.name for n in ast.parse(path.read_text()).body if isinstance(n, kinds) and not n.name.startswith("_")}


def loaded_by(imports: list[str], without: str = "") -> set[str]:
    """First names of all that a fresh Python holds after these imports, one package as if not installed."""
    code = (
        "import importlib, sys\n"
        "if sys.argv[1]: sys.modules[sys.argv[1]] = None\n"  # an import of it raises ImportError
        "for m in sys.argv[2:]: importlib.import_module(m)\n"
        "print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, without, *imports], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return roots(set(result.stdout.split()))


def test_every_file_has_its_tier():
    assert sorted(m for row in LAYOUT for m in row) == modules("jax_sngan")


@pytest.mark.parametrize("module", modules("jax_sngan"))
def test_imports_go_down(module):
    names = {dotted("jax_sngan", m): m for m in TIERS}
    own = imported(ROOT / "jax_sngan" / f"{module}.py")
    assert module in TIERS, f"give jax_sngan/{module}.py its line in LAYOUT"
    upward = sorted(n for n in own if n in names and TIERS[names[n]] >= TIERS[module])
    assert not upward, f"jax_sngan/{module}.py, tier {TIERS[module]}, imports {upward}, which is not lower"


@pytest.mark.parametrize("module", modules("jax_sngan"))
def test_the_product_never_names_torch(module):
    assert not roots(imported(ROOT / "jax_sngan" / f"{module}.py")) & {"torch", "torchvision", "torch_ref"}


@pytest.mark.parametrize("module", modules("torch_ref"))
def test_the_reference_never_names_jax(module):
    assert not roots(imported(ROOT / "torch_ref" / f"{module}.py")) & set(JAX_STACK)


def test_the_product_needs_no_torch():
    # The default install has none. Where there is one, tensorboardX loads it of itself, so it is hidden here.
    assert "jax_sngan" in loaded_by([dotted("jax_sngan", m) for m in modules("jax_sngan")], without="torch")


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_the_reference_loads_no_jax():
    assert not loaded_by([dotted("torch_ref", m) for m in modules("torch_ref")]) & set(JAX_STACK)


def test_the_config_loads_neither():
    assert not loaded_by(["jax_sngan", "jax_sngan.config"]) & {"torch", *JAX_STACK}


@pytest.mark.parametrize("name", modules("tests"))
def test_only_parity_tests_import_torch(name):
    assert not roots(imported(ROOT / "tests" / f"{name}.py")) & {"torch", "torch_ref"}


@pytest.mark.parametrize("module", TWINS)
def test_twins_have_the_same_names(module):
    paths = [ROOT / wing / f"{module}.py" for wing in ("jax_sngan", "torch_ref")]
    assert [p for p in paths if not p.exists()] == []
    ours, theirs = (public_names(p) for p in paths)
    # Equality: an exception whose reason is gone fails as well.
    assert ours - theirs == ONLY_IN_JAX.get(module, set())
    assert theirs - ours == ONLY_IN_TORCH.get(module, set())


def test_every_file_of_the_reference_has_its_namesake():
    assert [m for m in modules("torch_ref") if m not in modules("jax_sngan")] == []
