"""Does a search's trials, each whole or not there, and keeps the table of those that are done."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_sngan.config.schema import RunConfig, TrainConfig, replace, to_dict
from jax_sngan.evaluation.evaluate import Features, evaluate
from jax_sngan.runs.provenance import provenance
from jax_sngan.runs.run import Run
from jax_sngan.search.cost import relative_cost
from jax_sngan.search.table import markdown
from jax_sngan.search.trials import Plan, Trial, configured, digest, key, read_plan
from jax_sngan.system.files import make_folder, read_json, remove_folder, write_json, write_whole
from jax_sngan.training.interface import train
from jax_sngan.training.loop import TrainingDiverged
from jax_sngan.training.task import load_data

LEAST_STEPS = 2


class Search:
    """A folder of trials: costs/, trials/ and runs/, and the table of all as table.json and table.md."""

    def __init__(
        self,
        file: Path,
        out: Path,
        *,
        num: int,
        real: str | None = None,
        data_dir: str | None = None,
        features: Features = "classifier",
        say: Callable[[str], None],
    ):
        """
        Args:
          file: of read_plan; it is read anew after each trial, so that a running search can be given more.
          num, real, data_dir, features: of evaluate; a trial's score is the Frechet distance.
        """
        self.file, self.out, self.say = file, out, say
        self.of_scores: dict[str, Any] = {"num": num, "real": real, "data_dir": data_dir, "features": features}

    def run(self) -> None:
        """Does the trials that are not done yet, in the file's order.

        Raises:
          UserError: the file is none, or a trial can't be trained.
        """
        while (trial := self._next(plan := read_plan(self.file))) is not None:
            self._do(plan, trial)
            self.tabulate()
        self.tabulate()

    def describe(self) -> None:
        """Says a line a trial, and which are done."""
        plan = read_plan(self.file)
        for trial in plan.trials:
            state = "done" if self._path(plan.base, trial).exists() else "to do"
            changes = ", ".join(f"{name}={value}" for name, value in trial.changes.items()) or "none"
            self.say(
                f"{trial.name}, {trial.share:g} of the base's time, seed {trial.seed}: {state}; changes: {changes}"
            )

    def tabulate(self) -> None:
        """Writes the table of what is done."""
        rows = self.rows()
        make_folder(self.out)
        write_json(self.out / "table.json", rows)
        write_whole(self.out / "table.md", lambda path: path.write_text(markdown(rows), encoding="utf-8"))

    def rows(self) -> list[dict[str, Any]]:
        """What is known of the trials that are done, in the order in which they were."""
        rows = [read_json(path) for path in (self.out / "trials").glob("*.json")]
        return sorted(rows, key=lambda row: row["ended"])

    def _next(self, plan: Plan) -> Trial | None:
        return next((t for t in plan.trials if not self._path(plan.base, t).exists()), None)

    def _path(self, base: TrainConfig, trial: Trial) -> Path:
        return self.out / "trials" / f"{trial.name}_{trial.share:g}_{trial.seed}_{key(base, trial)}.json"

    def _do(self, plan: Plan, trial: Trial) -> None:
        """Trains, keeps the run, scores it, and writes its row last: a trial that has one is whole."""
        base, path = plan.base, self._path(plan.base, trial)
        cost = self._cost(base, trial)
        config = configured(base, trial, max(LEAST_STEPS, round(trial.share * base.steps / cost)))
        self.say(f"{path.stem}: {config.steps} steps, each {cost:.2f} of the base's")
        try:
            trained, seconds = _timed_training(config)
        except TrainingDiverged as error:  # a finding, as a score is
            found: dict[str, Any] = {"seconds": None, "scores": {}, "diverged": str(error)}
        else:
            folder = self.out / "runs" / path.stem
            if folder.exists():  # of a search that ended before this one's scores were taken
                remove_folder(folder)
            trained.save(folder)
            scores = {
                name: value
                for raw in (False, True)
                for name, value in evaluate(folder, raw=raw, **self.of_scores)["metrics"].items()
            }
            found = {"seconds": seconds, "scores": scores, "diverged": None}
        row = trial._asdict() | {
            "base": base.name,
            "steps": config.steps,
            "cost": cost,
            **found,
            "ended": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "made_by": provenance("jax", None, None),
            "config": to_dict(config),
        }
        make_folder(path.parent)
        write_json(path, row)
        told = found["diverged"] or ", ".join(f"{name} {value:.4g}" for name, value in found["scores"].items())
        self.say(f"{path.stem}: {told}")

    def _cost(self, base: TrainConfig, trial: Trial) -> float:
        """Of a step, in the base's; measured once for all trials whose programs differ in no number that costs time."""
        plain = {f"{side}.{name}": getattr(getattr(base, side), name) for side in _OPTIMIZERS for name in _FREE}
        alike = replace(configured(base, trial, base.steps), plain | _ALIKE)
        if alike == replace(base, plain | _ALIKE):
            return 1.0
        path = self.out / "costs" / f"{digest([to_dict(alike), to_dict(base)])}.json"
        if not path.exists():
            make_folder(path.parent)
            ratio = relative_cost(alike, base, load_data(alike, RunConfig()))
            write_json(path, {"ratio": ratio, "config": to_dict(alike)})
        return float(read_json(path)["ratio"])


def _timed_training(config: TrainConfig) -> tuple[Run, float]:
    """The run, and its steps' processor seconds; what compiles them, and the first of them, does not count.

    Raises:
      TrainingDiverged: a number is no longer finite.
      KeyboardInterrupt: Ctrl-C.
    """
    ticks: list[tuple[int, float]] = []  # steps done, and the processor time of this process by then
    run = train(
        config,
        callbacks=[lambda step, numbers: ticks.append((step, time.process_time()))],
        log_every=max(1, config.steps // 20),
        sample_every=0,
        checkpoint_every=0,
    )
    if run.step < config.steps:  # train has heard it and come back with what there was
        raise KeyboardInterrupt
    (first, started), (last, ended) = ticks[0], ticks[-1]
    return run, (ended - started) / max(last - first, 1) * config.steps


_OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
_FREE = ("learning_rate", "beta1", "beta2", "eps", "schedule", "decay_start")  # of an optimiser: no multiplication more
_ALIKE = {"seed": 0, "ema_decay": 0.998, "ema_warmup": False}
