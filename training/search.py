"""A search over the few settings that matter and that the user left open; every cell is in one study.

Each trial trains on the train split and is judged on validation; the test split is never looked at. The study stands in
the run's folder, so a killed search ends with as many trials as one that nothing stopped, and with the same ones.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gatewise.durable import replace_text
from gatewise.errors import InvalidConfig
from training.config import TrainingConfig
from training.contenders import Contender, Found
from training.fitting import Candidate
from training.learning import Learning

_STUDY, _FOUND = "search.db", "search.json"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
# Trials that end before any is cut short, and that are drawn at random before the sampler learns from them.
_UNPRUNED, _RANDOM = 4, 8
# Reports of a trial: small sets take hundreds of short epochs, and each report is written to disk.
_REPORTS = 20
_DROPOUTS = ("embedding_dropout", "recurrent_dropout", "dense_dropout")


def search(learning: Learning, seconds: float | None) -> Found:
    """Try as many settings as the configuration says, or as the time allows.

    Args:
        seconds: for the search; None without a limit.
    Returns:
        for each cell the best settings that were tried with it: what suits an LSTM need not suit a GRU, and a
        comparison at the other's settings would tell little.
    Raises:
        InvalidConfig: the job is of a kind that cannot be searched.
    """
    path = learning.folder / _FOUND
    if path.exists():
        learning.say("The search was finished before")
        return read_found(learning.folder)
    if learning.prepared.unlabelled is not None:
        raise InvalidConfig("search: it would pretrain in every trial; search first, then give --unlabelled")
    knobs = knobs_of(learning.prepared.config, learning.options.settings)
    study = _open(learning)
    deadline = time.monotonic() + seconds if seconds else math.inf
    _run(learning, study, knobs, deadline)
    found = Found(_best_settings(study, learning.prepared.config), _account(study))
    replace_text(path, json.dumps(asdict(found)))
    shutil.rmtree(_trial_folder(learning), ignore_errors=True)
    return found


def read_found(folder: Path) -> Found:
    """What a search found in this run's folder.

    Raises:
        InvalidConfig: none has ended there: several processes were started at once, and only one may search.
    """
    path = folder / _FOUND
    if not path.exists():
        raise InvalidConfig("search: it runs in one process; start the job by `gatewise train`, not by torchrun")
    return Found(**json.loads(path.read_text()))


def knobs_of(config: TrainingConfig, settings: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """What is searched around the recipe's own choices; what the user gave stays as it is."""
    size, rate, decay = config.hidden_size, config.learning_rate, config.weight_decay
    knobs: dict[str, BaseDistribution] = {
        "hidden_size": CategoricalDistribution(sorted({max(size // 2, 1), size, 2 * size})),
        "num_layers": IntDistribution(1, max(2, config.num_layers)),
        "learning_rate": FloatDistribution(rate / 4, rate * 4, log=True),
    }
    if config.recurrent_dropout == config.dense_dropout and not settings.keys() & set(_DROPOUTS):
        knobs["dropout"] = FloatDistribution(0.0, max(0.6, config.recurrent_dropout))
    if config.optimizer == "adamw" and decay > 0:
        knobs["weight_decay"] = FloatDistribution(decay / 10, decay * 10, log=True)
    if config.sizes:
        del knobs["hidden_size"]
    return {name: knob for name, knob in knobs.items() if name not in settings}


def settings_of(params: Mapping[str, Any], config: TrainingConfig) -> dict[str, Any]:
    """A trial's parameters as settings; one dropout stands for all that the recipe has."""
    settings = {name: value for name, value in params.items() if name not in ("cell", "dropout")}
    if "dropout" in params:
        settings |= {name: params["dropout"] for name in _DROPOUTS if getattr(config, name) > 0 or name != _DROPOUTS[0]}
    return settings


class Watch(pl.Callback):
    """Reports a trial's epochs, and ends it where it is worse than half of those before it."""

    def __init__(self, trial: Trial, epochs: int) -> None:
        self.trial = trial
        self.every = math.ceil(epochs / _REPORTS)
        self.is_pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every or epoch == trainer.max_epochs:
            return
        self.trial.report(pl_module.valid_rank[0], epoch)
        if self.trial.should_prune():
            self.is_pruned = trainer.should_stop = True


def _open(learning: Learning) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    learning.folder.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(_UNPRUNED, n_warmup_steps=learning.prepared.config.epochs // 3)
    return optuna.create_study(
        study_name=learning.prepared.name,
        storage=f"sqlite:///{(learning.folder / _STUDY).resolve()}",
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )


def _run(learning: Learning, study: optuna.Study, knobs: Mapping[str, BaseDistribution], deadline: float) -> None:
    config = learning.prepared.config
    # What a killed search left running is tried again.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        study.tell(trial.number, state=TrialState.FAIL)
    cells = CategoricalDistribution(list(config.cells))
    learning.say(f"Searching {', '.join(knobs)} of {' and '.join(config.cells)} in {config.search} trials")
    with _progress(learning) as progress:
        for number in range(len(_ended(study)), config.search):
            if time.monotonic() >= deadline:
                learning.say(f"  the time of the search is up after {number} trials")
                break
            # A seed of its own for each trial: a resumed search draws what the killed one would have drawn.
            study.sampler = optuna.samplers.TPESampler(seed=config.seed + number, n_startup_trials=_RANDOM)
            if number < len(config.cells):
                study.enqueue_trial(_own(config, knobs) | {"cell": config.cells[number]})
            trial = study.ask({"cell": cells, **knobs})
            _try(learning, study, trial, deadline)
            progress(number + 1, _line(study, trial.number, config.monitor))


def _own(config: TrainingConfig, knobs: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The recipe's own values, which each cell is tried with first."""
    values = config.model_dump() | {"dropout": config.recurrent_dropout}
    return {name: values[name] for name in knobs}


def _try(learning: Learning, study: optuna.Study, trial: Trial, deadline: float) -> None:
    config = learning.prepared.config
    settings = settings_of(trial.params, config)
    contender = Contender(trial.params["cell"], trial.params["cell"], config.model_copy(update=settings))
    folder = _trial_folder(learning)
    shutil.rmtree(folder, ignore_errors=True)
    watch = Watch(trial, config.epochs)
    seconds = None if deadline == math.inf else max(deadline - time.monotonic(), 1.0)
    try:
        candidate = learning.try_out(contender, folder, [watch], seconds)
    except InvalidConfig as error:
        if not error.message.startswith("learning_rate"):
            raise
        study.tell(trial, state=TrialState.PRUNED)
        return
    if watch.is_pruned or candidate.stopped_by == "max_time":
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, _value(candidate, config.monitor))


def _value(candidate: Candidate, monitor: str) -> float:
    return candidate.epochs[candidate.best_epoch - 1][f"valid_{monitor}"]


def _trial_folder(learning: Learning) -> Path:
    return learning.folder / "trial"


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=_ENDED)
    return trials


def _completed(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in _ended(study) if trial.state == TrialState.COMPLETE]


def _best_settings(study: optuna.Study, config: TrainingConfig) -> dict[Any, dict[str, Any]]:
    """Of each cell; of equally good trials the first, which is the recipe's own."""
    best: dict[Any, FrozenTrial] = {}
    for trial in _completed(study):
        cell = trial.params["cell"]
        if cell not in best or trial.values[0] > best[cell].values[0]:
            best[cell] = trial
    return {cell: settings_of(trial.params, config) for cell, trial in best.items()}


def _account(study: optuna.Study) -> dict[str, Any]:
    ended, completed = _ended(study), _completed(study)
    best = max(completed, key=lambda trial: (trial.values[0], -trial.number), default=None)
    return {
        "trials": len(ended),
        "pruned": len(ended) - len(completed),
        "best_value": best.values[0] if best else None,
        "best": dict(best.params) if best else {},
        "importance": _importance(study),
        "history": [
            trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else None for trial in ended
        ],
    }


def _importance(study: optuna.Study) -> dict[str, float]:
    """The share of each knob in how the trials differ (Hutter et al. 2014); empty where they do not differ."""
    values = {trial.values[0] for trial in _completed(study)}
    if len(values) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _line(study: optuna.Study, number: int, monitor: str) -> str:
    trial = study.get_trials(deepcopy=False)[number]
    params = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in trial.params.items()}
    told = " ".join(f"{name}={value}" for name, value in params.items() if name != "cell")
    value = f"{monitor} {trial.values[0]:.4f}" if trial.state == TrialState.COMPLETE and trial.values else "cut short"
    best = max((trial.values[0] for trial in _completed(study)), default=None)
    return f"{params['cell'].upper()} {told}: {value}" + ("" if best is None else f" (best {best:.4f})")


@contextmanager
def _progress(learning: Learning) -> Iterator[Callable[[int, str], None]]:
    """A bar with the best so far on a terminal, and a line for each trial."""
    wanted = learning.prepared.config.search
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=learning.console, transient=True, disable=learning.console is None) as bar:
        task = bar.add_task("trials", total=wanted)

        def tell(done: int, line: str) -> None:
            bar.update(task, completed=done, description=f"trials {line.rpartition('(')[2].rstrip(')')}")
            learning.say(f"  trial {done}/{wanted}  {line}")

        yield tell
