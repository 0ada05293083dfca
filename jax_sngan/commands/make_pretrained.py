"""Packs a run's averaged generator as `pretrained(NAME)` loads it: NAME.npz, and its card as NAME.json and NAME.md.

Weights are float16 where that moves no pixel of 1,000 images by more than one grey level, else float32.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_sngan.commands import cli
from jax_sngan.config.schema import TrainConfig, flatten, to_dict
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import make_folder, read_json, write_json, write_whole
from jax_sngan.system.invocation import this_command

if TYPE_CHECKING:
    from jax_sngan.runs.run import Run

COMPARED = 1000  # images
LARGEST = 2_000_000  # bytes of the file


def main() -> None:
    """Prints what was written."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a run")
    parser.add_argument("name", metavar="NAME", help="what the generator is asked for by")
    parser.add_step()
    parser.add_argument("--scores", metavar="FILE", help="what `evaluate` wrote with --json of that run")
    parser.add_argument("--training", metavar="COMMAND", help="the command that trained it")
    parser.add_argument("--data-licence", metavar="TEXT", help="whose the training images are, and under which licence")
    parser.add_argument("--out", metavar="DIR", help="folder of the files (default: the package's own)")
    arguments = parser.parse()
    for option in ("scores", "training", "data_licence"):
        if getattr(arguments, option) is None:
            raise UserError(f"--{option.replace('_', '-')} must be given: the card says it")
    scores = read_json(Path(arguments.scores))
    if not isinstance(scores, dict) or not {"metrics", "real", "extractor", "step"} <= set(scores):
        raise UserError(f"--scores: {arguments.scores} is nothing that `evaluate` wrote")

    from jax_sngan.runs.pretrained import FOLDER
    from jax_sngan.runs.run import load  # jax takes a second to load

    run = load(arguments.workdir, arguments.step)
    if scores["step"] != run.step:
        raise UserError(f"--scores: {arguments.scores} is of step {scores['step']}, the run is at step {run.step}")
    contents, facts = pack(run)
    card = {
        "name": arguments.name,
        "step": run.step,
        "sha256": hashlib.sha256(contents).hexdigest(),
        **facts,
        "training": arguments.training,
        "packing": this_command(),
        "data_licence": arguments.data_licence,
        "licence": "MIT, as the package",
        "scores": {k: scores[k] for k in ("metrics", "intervals", "num", "seeds", "real", "extractor") if k in scores},
        "origin": run.origin,
        "config": to_dict(run.config),
    }
    out = Path(arguments.out or FOLDER)
    make_folder(out)
    write_whole(out / f"{arguments.name}.npz", lambda path: path.write_bytes(contents))
    write_json(out / f"{arguments.name}.json", card)
    write_whole(out / f"{arguments.name}.md", lambda path: path.write_text(told(card, run.config), encoding="utf-8"))
    print(
        f"{out / arguments.name}.npz: {len(contents):,} bytes, {facts['dtype']}, {facts['grey_levels']} grey levels off"
    )


def pack(run: "Run") -> tuple[bytes, dict[str, Any]]:
    """The file of a run's generator, and for its card the type, and by how many grey levels images differ at most.

    Raises:
      UserError: the file would be larger than LARGEST.
    """
    from jax_sngan.commands.make_fashion10k import pack as npz
    from jax_sngan.runs.pretrained import packed, unpacked
    from jax_sngan.runs.sample import Generator

    images = run.sample(COMPARED).astype(int)
    for dtype in ("float16", "float32"):
        arrays = packed(run.variables, dtype)
        made = Generator(run.gan, run.step, unpacked(arrays, run.gan)).sample(COMPARED).astype(int)
        if (levels := int(np.abs(made - images).max())) <= 1:
            break
    contents = npz(arrays)
    if len(contents) > LARGEST:
        raise UserError(f"the generator's file would have {len(contents):,} bytes; at most {LARGEST:,} ship")
    return contents, {"dtype": dtype, "grey_levels": levels, "compared": COMPARED}


def told(card: dict[str, Any], config: TrainConfig) -> str:
    """The card for a person."""
    scores, real = card["scores"], card["scores"]["real"]
    default = flatten(TrainConfig())
    changed = {name: value for name, value in flatten(config).items() if value != default[name]}
    rows = [f"| `{name}` | {value:.4g} |" for name, value in scores["metrics"].items()]
    code = card["origin"]["libraries"] | {"jax-sngan": card["origin"]["code"]["jax-sngan"]}
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            f"The averaged generator of a run after {card['step']:,} of its {config.steps:,} steps: "
            f"`jax_sngan.pretrained({card['name']!r})`.",
            "Made by `sngan make-pretrained`; the same in full is in the JSON file beside this one.",
            "",
            f"**Data.** `{config.data}`: {card['data_licence']}.",
            "",
            f"**Licence of the weights.** {card['licence']}.",
            "",
            f"**How it was made.** `{card['training']}`, then `{card['packing']}`; "
            + ", ".join(f"{name} {version}" for name, version in code.items())
            + ".",
            "",
            f"**Scores**, {scores['num']:,} images against {real['count'] or 'statistics'} of {real['name']}"
            f"{', ' + real['split'] if real['split'] else ''}; docs/quality.md says what the names mean:",
            "",
            "| | |",
            "| --- | --- |",
            *rows,
            "",
            f"**The file.** {card['dtype']}; {card['compared']:,} images differ from the run's own by at most "
            f"{card['grey_levels']} grey level. No discriminator, no optimiser.",
            "",
            "**Settings** that are not the options' defaults: "
            + ", ".join(f"{name} {value}" for name, value in changed.items() if value != "")
            + ".",
            "",
        ]
    )
