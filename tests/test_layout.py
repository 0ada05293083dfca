"""The house keeps its shape: imports go down only, neither framework imports the other, twins have the same names."""

import ast
import graphlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A folder's files import from their own folder and from folders of earlier rows; a new folder gets its place here.
LAYERS = [
    ["nn"],  # of nothing else: it may be used without the rest
    ["system"],
    ["config"],
    ["models", "data"],
    ["core"],
    ["runs", "accelerators"],
    ["interop"],
    ["metrics"],
    ["evaluation"],
    ["training"],
    ["reports"],
    ["benchmark", "export", "lipschitz"],
    ["study", "search"],
    ["accelerator_check"],
    ["commands"],
]
ROW = {folder: row for row, folders in enumerate(LAYERS) for folder in folders}
TOP = {"__init__", "__main__"}  # files that are in no folder, and may import whatever they like

# The mathematics. Each has its twin of the same name in torch_ref/, with the same public classes and functions.
TWINS = [
    "core/augment",
    "core/pixels",
    "core/losses",
    "nn/rng",
    "core/optim",
    "core/penalties",
    "core/step",
    "core/watch",
    "core/observer",
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
    "models/options",
    "models/standard_cnn",
    "models/resnet",
    "models/mlp",
]
# (file, names) that one framework has and the other does not, each with the reason.
ONLY_IN_JAX = {
    # Where a fast form applies; torch's convolutions bring their own.
    "nn/conv": {"simple_window"},
    # The reference's layer is torch.nn.utils.spectral_norm itself, which keeps u and v and finds the axis of outputs.
    "nn/spectral_norm": {
        "SpectralNorm",
        "SpectralStat",
        "TreeVectors",
        "Vectors",
        "draw_vectors",
        "init_tree",
        "kernels_by_name",
        "normalize_tree",
    },
    # A dictionary's type; torch's layers name their arguments one by one.
    "nn/layers": {"LayerOptions"},
    # Torch's precision is a flag of the process, which is set once.
    "nn/operator_norm": {"largest_singular_value"},
    # An optimiser is a pair of pure functions here, of which its direction is held against torch's optimisers.
    "core/optim": {"NumberByNumber", "adam_direction"},
    # A user's penalty is a value here; the reference's step asks the config.
    "core/penalties": {"Penalty", "draw"},
    # Eager torch moves u and v in its passes, and need not know how many there will be.
    "core/step": {"generator_passes"},
    # A scan gives its logs as one array; an optimiser of a user's own may tell its rate.
    "core/watch": {"at_one_precision", "learning_rate"},
    # The program that is compiled.
    "core/observer": {"observer"},
}
ONLY_IN_TORCH = {
    # Puts torch's own on a layer; and what a batch in parts needs of it, where ours has Network.iterate and `hold`.
    "nn/spectral_norm": {"add_spectral_norm", "held", "load_spectral_state", "spectral_state"},
    "core/watch": {"copies"},  # an update changes parameters in place
    "core/optim": {"AdamEpsilonHat"},  # the form of adam that torch has not
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


def test_every_folder_has_its_row():
    folders = {module.partition("/")[0] for module in modules("jax_sngan")}
    assert sorted(folders) == sorted([*ROW, *TOP])


@pytest.mark.parametrize("module", modules("jax_sngan"))
def test_imports_go_down(module):
    folder = module.partition("/")[0]
    others = {
        name.split(".")[1] for name in imported(ROOT / "jax_sngan" / f"{module}.py") if name.startswith("jax_sngan.")
    }
    upward = sorted(other for other in others - {folder} if folder in ROW and ROW[other] >= ROW[folder])
    assert not upward, f"jax_sngan/{module}.py imports from {upward}, of a row that is not earlier"


def test_no_folder_imports_in_a_circle():
    """Within a folder: an order of its files in which each imports from earlier ones alone."""
    names = {dotted("jax_sngan", m): m for m in modules("jax_sngan")}
    for folder in ROW:
        own = {n for n, m in names.items() if m.startswith(f"{folder}/")}
        edges = {n: imported(ROOT / "jax_sngan" / f"{names[n]}.py") & own - {n} for n in own}
        graphlib.TopologicalSorter(edges).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", modules("jax_sngan"))
def test_the_product_never_names_torch(module):
    assert not roots(imported(ROOT / "jax_sngan" / f"{module}.py")) & {"torch", "torchvision", "torch_ref"}


@pytest.mark.parametrize("package", ["jax_sngan", "torch_ref"])
def test_nothing_imports_the_kit_that_imports_both(package):
    for module in modules(package):
        assert "parity_kit" not in roots(imported(ROOT / package / f"{module}.py")), module


@pytest.mark.parametrize("module", modules("torch_ref"))
def test_the_reference_never_names_jax(module):
    assert not roots(imported(ROOT / "torch_ref" / f"{module}.py")) & set(JAX_STACK)


def test_the_product_needs_no_torch():
    # The default install has none.
    assert "jax_sngan" in loaded_by([dotted("jax_sngan", m) for m in modules("jax_sngan")], without="torch")


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_the_reference_loads_no_jax():
    assert not loaded_by([dotted("torch_ref", m) for m in modules("torch_ref")]) & set(JAX_STACK)


def test_nn_is_there_by_attribute_and_loads_nothing_else():
    code = (
        "import sys, jax_sngan as sn\n"
        "assert 'jax' not in sys.modules\n"
        "print(sn.nn.SpectralNorm.__name__, sn.nn.spectral_norm.init_tree.__name__)\n"
        "own = {m for m in sys.modules if m.startswith('jax_sngan.')}\n"
        "own -= {'jax_sngan.system', 'jax_sngan.system.starting'}\n"
        "print(*sorted({m.split('.')[1] for m in own}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    names, folders = result.stdout.splitlines()
    assert names == "SpectralNorm init_tree"
    assert set(folders.split()) <= {
        "nn",
        "accelerators",
    }  # the latter, and what is subtracted, by jax_sngan's own import


def test_the_config_loads_neither():
    assert not loaded_by(["jax_sngan", "jax_sngan.config.schema"]) & {"torch", *JAX_STACK}


@pytest.mark.parametrize("name", modules("tests"))
def test_only_parity_tests_import_torch(name):
    assert not roots(imported(ROOT / "tests" / f"{name}.py")) & {"torch", "torch_ref"}


@pytest.mark.parametrize("module", TWINS)
def test_twins_have_the_same_names(module):
    paths = [ROOT / framework / f"{module}.py" for framework in ("jax_sngan", "torch_ref")]
    assert [p for p in paths if not p.exists()] == []
    ours, theirs = (public_names(p) for p in paths)
    # Equality: an exception whose reason is gone fails as well.
    assert ours - theirs == ONLY_IN_JAX.get(module, set())
    assert theirs - ours == ONLY_IN_TORCH.get(module, set())


def test_every_file_of_the_reference_has_its_namesake():
    of_torch_alone = {"benchmark/torch_side", "with_torch"}  # the latter says what brings torch
    assert {m for m in modules("torch_ref") if m not in modules("jax_sngan")} == of_torch_alone
