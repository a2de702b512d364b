"""Production's model trained again with the feedback, and put in its own place where the gate lets it.

    RUN_DIR/NAME/retrain-TIME/  job.log        what was said, with times
                                request.json   what was asked
                                config.json    the configuration that it was trained by
                                snapshot.jsonl the champion and the feedback
                                gate.json      the decision, as it is noted beside the challenger too
                                training/      as `gatewise train` leaves it

Each step leaves what it made before the next begins; the same request goes on with a job that was killed or failed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from gatewise.durable import replace_text
from gatewise.errors import InvalidConfig, InvalidData, InvalidSequence, ModelConflict, UnsupportedModel
from gatewise.jobs import JobStore
from gatewise.predictor import Predictor
from gatewise.store import GATE, ModelVersion, Store
from training.callbacks import Say
from training.config import TrainingConfig
from training.dataset import Dataset
from training.fitting import Devices
from training.gate import FEEDBACK, TEST, Rules, Verdict, judge
from training.job import run as train
from training.merging import LEAST_NEW_ROWS, Feedback, Merged, merge
from training.origin import Origin, Source, check, origin_of
from training.plan import JobOptions
from training.readers import ReadOptions
from training.snapshot import Snapshot, take_snapshot
from training.splits import Splits
from training.watch import Watch

KIND = "retrain"

Promote = Literal["never", "auto", "ask"]
Result = Literal["nothing_new", "refused", "passed", "promoted"]


@dataclass(frozen=True)
class RetrainOptions:
    """What a retraining is asked to do.

    Attributes:
        base: a file or folder to train on in place of the champion's; its test rows stay.
        since: with a time zone; feedback that came earlier is left out.
        settings: those that shall be otherwise than the champion's.
        promote: what to do with a challenger that the gate lets through.
        least_new_rows: rows to train on that a new class needs.
        database: the URL of feedback and jobs.
    """

    name: str
    database: str
    base: str | None = None
    since: datetime | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    promote: Promote = "never"
    least_new_rows: int = LEAST_NEW_ROWS
    recall_margin: float = Rules.recall_margin
    max_slowdown: float = Rules.max_slowdown
    devices: Devices = field(default_factory=Devices)
    run_dir: Path = Path("runs")
    max_seconds: float | None = None

    def request(self) -> dict[str, Any]:
        """What makes it the same job when it is asked again; JSON only."""
        asked = {
            "base": str(Path(self.base).absolute()) if self.base else None,
            "since": self.since.isoformat() if self.since else None,
            "settings": self.settings,
            "least_new_rows": self.least_new_rows,
            "recall_margin": self.recall_margin,
            "max_slowdown": self.max_slowdown,
            "max_seconds": self.max_seconds,
        }
        plain: dict[str, Any] = json.loads(json.dumps(asked))
        return plain


@dataclass(frozen=True)
class Outcome:
    """What came of a retraining.

    Attributes:
        version: the challenger's; None where there was nothing to learn.
        reason: the gate's, or why there was nothing to learn.
    """

    job: int
    result: Result
    champion: str
    version: str | None
    reason: str


def retrain(
    options: RetrainOptions,
    *,
    say: Say = print,
    ask: Callable[[str], bool] | None = None,
    console: Console | None = None,
) -> Outcome:
    """Do the job, or go on with the one that was left off. Call it from the main thread: signals stop it.

    Args:
        ask: puts a question to the user, with `promote="ask"`.
        console: a terminal to draw progress bars on.
    Raises:
        ModelNotFound: no version of the model is in production.
        ModelConflict: another process retrains it.
        InvalidData: the base data has moved or changed, or is wrong.
        InvalidConfig: a setting does not fit.
        Stopped: by a signal, or by `gatewise jobs cancel`.
    """
    if options.promote == "ask" and ask is None:
        raise InvalidConfig("--promote: ask needs a terminal; say auto or never")
    champion = Store().get(f"{options.name}:production")
    jobs = JobStore(options.database)
    try:
        folder = options.run_dir.absolute() / options.name / f"retrain-{_stamp()}"
        job = jobs.begin(KIND, options.name, options.request(), folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        watch = Watch(jobs, job, say)
        with watch.watching():
            watch.say(f"Job {job.id} in {job.folder}" + (" goes on where it was left" if job.attempts > 1 else ""))
            outcome, record = _Retraining(options, watch, jobs, champion, console).run(ask)
            watch.finish(record)
        return outcome
    finally:
        jobs.close()


@dataclass
class _Retraining:
    options: RetrainOptions
    watch: Watch
    jobs: JobStore
    champion: ModelVersion
    console: Console | None

    @property
    def folder(self) -> Path:
        """Of the job."""
        return self.watch.job.folder

    def run(self, ask: Callable[[str], bool] | None) -> tuple[Outcome, dict[str, Any]]:
        """The steps, and what the job's row keeps of them."""
        self.watch.begin("reading")
        _write(self.folder / "request.json", {"name": self.options.name, **self.options.request()})
        snapshot = self._snapshot()
        origin = self._origin()
        told = self._nothing_new(snapshot, origin)
        if told:
            self.watch.say(told)
            return self._outcome("nothing_new", None, told, snapshot, {})
        predictor = Predictor.load(self.champion.path, version=self.champion.version)
        merged, test = self._merge(snapshot, origin, predictor)
        challenger = self._train(merged, origin, snapshot)
        self.watch.begin("judging")
        record = self._judge(predictor, challenger, merged, test)
        self.watch.begin("promoting")
        result, reason = self._promote(challenger, record, ask)
        return self._outcome(result, challenger.version, reason, snapshot, merged.counts.account())

    def _snapshot(self) -> Snapshot:
        options = self.options
        snapshot = take_snapshot(self.folder, options.database, options.name, self.champion.version, options.since)
        if snapshot.champion != self.champion.version:
            # The job was left off, and production has moved since: it goes on against the one that it began with.
            self.champion = Store().get(f"{options.name}:{snapshot.champion}")
        self.watch.say(
            f"{len(snapshot.feedback)} sequences of feedback; {snapshot.repeats} came again, and {snapshot.conflicts} "
            "with another label, of which the latest counts"
        )
        return snapshot

    def _origin(self) -> Origin:
        """The files to train on and to test on, which are checked."""
        origin, base = origin_of(self.champion), self.options.base
        if base is None:
            if origin is None:
                raise InvalidData(
                    f"it is not known here what {self.champion.reference} was trained on",
                    mend="Name it with --base DATA; where its test rows are a file of their own, a folder with both",
                )
            check(origin.more or {})
            return origin
        config = self._recipe()
        reading = ReadOptions.model_validate(self.champion.manifest["training"].get("reading", {}))
        source = Source.of(base, None, None, reading, config.seed)
        try:
            if origin is not None:
                check(origin.testing.checksums)
                return origin.on(source)
        except InvalidData as error:
            self.watch.say(f"The test rows of before are lost: {error.message}")
        self.watch.say("The test rows are taken from --base; the champion may have learnt some of them")
        return Origin.of(source, None, None)

    def _recipe(self) -> TrainingConfig:
        """The champion's configuration; what a search found is in it already."""
        config = self.champion.manifest.get("training", {}).get("config")
        if config is None:
            raise UnsupportedModel(f"{self.champion.reference} was imported; train a model of its data: gatewise train")
        return TrainingConfig.model_validate(config).model_copy(update={"search": 0, "sizes": ()})

    def _nothing_new(self, snapshot: Snapshot, origin: Origin) -> str | None:
        """Why a training would make nothing that has not been made already."""
        asked = self.options.base or self.options.settings
        if not asked and origin.feedback == snapshot.digest:
            return f"{self.champion.reference} has learnt all feedback that there is: nothing new"
        if not asked and not snapshot.feedback:
            return f"there is no feedback for {self.options.name!r} yet: nothing new"
        for job in self.jobs.list(self.options.name):
            made = job.result or {}
            if job.state == "finished" and job.request == self.watch.job.request and made.get("version"):
                same = (made["champion"], made["feedback"]) == (self.champion.version, snapshot.digest)
                told = f"job {job.id} has made {made['version']} of this feedback ({made['result']}): nothing new"
                return told if same else None
        return None

    def _merge(self, snapshot: Snapshot, origin: Origin, champion: Predictor) -> tuple[Merged, Dataset | None]:
        """The rows to learn from, and the test rows that neither model has learnt."""
        testing = origin.testing.read()
        base = testing if origin.training == origin.testing else origin.training.read()
        feedback = [one for one in snapshot.feedback if _is_taken(champion, one)]
        merged = merge(base, testing.test, feedback, self.options.least_new_rows)
        merged.counts.unfit += len(snapshot.feedback) - len(feedback)
        return merged, _unseen(testing)

    def _train(self, merged: Merged, origin: Origin, snapshot: Snapshot) -> ModelVersion:
        options, source = self.options, origin.training
        self.watch.begin("training")
        result = train(
            JobOptions(
                data=source.data,
                valid=source.valid,
                test=source.test,
                embeddings=origin.embeddings,
                unlabelled=origin.unlabelled,
                name=options.name,
                reading=ReadOptions.model_validate(source.reading),
                settings=options.settings,
                devices=replace(options.devices, devices="1"),
                run_dir=self.folder / "training",
                resume=self.watch.job.attempts > 1,
                max_seconds=options.max_seconds,
                recipe=self._recipe(),
                origin=replace(origin, feedback=snapshot.digest),
            ),
            splits=merged.splits,
            say=self.watch.say,
            console=self.console,
        )
        challenger = Store().get(f"{result.name}:{result.version}")
        _write(self.folder / "config.json", challenger.manifest["training"]["config"])
        return challenger

    def _judge(
        self, champion: Predictor, challenger: ModelVersion, merged: Merged, test: Dataset | None
    ) -> dict[str, Any]:
        """The gate's decision, taken once and kept."""
        path = self.folder / "gate.json"
        if path.exists():
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        self.watch.say(f"Gate: {challenger.reference} against {self.champion.version}")
        config = self._recipe().model_copy(update=self.options.settings)
        rules = Rules(self.options.recall_margin, config.max_latency_ms, self.options.max_slowdown)
        parts = {TEST: test, FEEDBACK: merged.held_out}
        rows = {name: part for name, part in parts.items() if part is not None and len(part)}
        verdict: Verdict = judge(champion, challenger.path, rows, config.monitor, rules, self.watch.say)
        record = {
            "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "job": self.watch.job.id,
            "champion": self.champion.version,
            "challenger": challenger.version,
            **verdict.account(),
            "feedback": merged.counts.account(),
        }
        _write(path, record)
        return record

    def _promote(
        self, challenger: ModelVersion, record: dict[str, Any], ask: Callable[[str], bool] | None
    ) -> tuple[Result, str]:
        """Note the decision beside the challenger, and do what it and the user say."""
        store, promote = Store(), self.options.promote
        reason = str(record["reason"])
        wanted = promote == "auto" or (ask is not None and promote == "ask" and record["passed"] and ask(reason))
        noted = {**record, "promote": promote}
        promotes = bool(record["passed"]) and wanted
        store.note(challenger.name, challenger.version, GATE, {**noted, "promoted": promotes})
        if not record["passed"]:
            self.watch.say(f"Refused: {reason}")
            return "refused", reason
        if not promotes:
            self.watch.say(f"{challenger.reference} may take the champion's place; it was not asked to")
            return "passed", reason
        try:
            store.promote(challenger.reference, over=self.champion.version)
        except ModelConflict as error:
            store.note(
                challenger.name, challenger.version, GATE, {**noted, "promoted": False, "hindrance": error.message}
            )
            self.watch.say(f"Not promoted: {error.message}")
            return "refused", error.message
        self.watch.say(f"{challenger.reference} is production now")
        return "promoted", reason

    def _outcome(
        self, result: Result, version: str | None, reason: str, snapshot: Snapshot, counts: dict[str, Any]
    ) -> tuple[Outcome, dict[str, Any]]:
        outcome = Outcome(self.watch.job.id, result, self.champion.version, version, reason)
        kept = {"result": result, "champion": outcome.champion, "version": version, "reason": reason}
        return outcome, {**kept, "feedback": snapshot.digest, "merged": counts}


def _is_taken(champion: Predictor, one: Feedback) -> bool:
    try:
        champion.encode(one.sequence)
    except InvalidSequence:
        return False
    return True


def _unseen(testing: Splits) -> Dataset | None:
    """The test rows of sequences that the champion's train and validation rows do not have too."""
    if testing.test is None or testing.test_in_train is None:
        return testing.test
    return testing.test.take([i for i, seen in enumerate(testing.test_in_train) if not seen])


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dt%H%M%S}-{secrets.token_hex(2)}"


def _write(path: Path, fields: dict[str, Any]) -> None:
    replace_text(path, json.dumps(fields, indent=1))
