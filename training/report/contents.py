"""The schema of `report.json`, from which the page and the model card are written.

Every share lies between 0 and 1. An answer is a sequence's label, or a step's where each step has one.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gatewise.architecture import Kind, Task


class Part(BaseModel):
    """What all parts are: unchanging, and free of NaN, which JSON lacks."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Share(Part):
    """`count` of `rows`, with the 95 % interval of Wilson (1927), which takes the rows for independent."""

    count: int
    rows: int
    value: float | None
    low: float | None
    high: float | None


class ModelFacts(Part):
    """What the model is."""

    name: str
    created_at: str
    gatewise_version: str
    kind: Kind
    task: Task
    labels: list[str]
    cell: str
    parameters: int
    architecture: dict[str, Any]


class Bin(Part):
    """The answers of one range of confidence, with their mean confidence and the share of right ones."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


class Calibration(Part):
    """How nearly confidence is the share of right answers, on one split.

    Attributes:
        before, after: expected calibration error without and with the temperature; 15 bins of equal width.
        by_chance: what so many answers would show of a model whose every confidence is exactly right.
    """

    rows: int
    before: float
    after: float
    by_chance: float
    bins_before: list[Bin]
    bins_after: list[Bin]


class AbstainingFacts(Part):
    """Marking unsure answers as abstained.

    Attributes:
        threshold: confidences below it are abstained; None where every answer is.
        answered: by split, the share of the answers that are not abstained.
        precision: by split, the share of these that is right.
        sentence: what came of it, in plain language.
    """

    target_precision: float
    threshold: float | None
    answered: dict[str, Share]
    precision: dict[str, Share]
    sentence: str


class LabelSetFacts(Part):
    """Label sets.

    Attributes:
        coverage: as stated.
        threshold: labels of at least this probability are in the set.
        covered: by split, the share of the sets that hold the true label.
        mean_size: by split.
        sizes: by split, the number of sets of each size.
        sentence: what came of it, in plain language.
    """

    coverage: float
    threshold: float
    covered: dict[str, Share]
    mean_size: dict[str, float]
    sizes: dict[str, dict[int, int]]
    sentence: str


class Certainty(Part):
    """How sure the model is, and what that is worth.

    Attributes:
        calibration: by split.
        answering: (share answered, precision of these) at falling thresholds, on the split that was analysed.
        caution: what the rows of these figures had to do with the model's making.
    """

    temperature: float
    calibration: dict[str, Calibration]
    answering: list[tuple[float, float]]
    abstaining: AbstainingFacts | None
    label_sets: LabelSetFacts
    caution: str


class ClassFigures(Part):
    """One class; a figure is None where nothing was answered, or is expected, of it."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Confusion(Part):
    """Answers by true and answered label.

    Attributes:
        labels: of rows and columns; those most confused, where there are many.
        counts: a row for each true label, a column for each answered one.
        left_out: labels that are not shown.
        pairs: (true label, answered label, count) of mistakes, the most frequent first.
    """

    labels: list[str]
    counts: list[list[int]]
    left_out: int
    pairs: list[tuple[str, str, int]]


class LengthGroup(Part):
    """Sequences of `low` to `high` timesteps, and how many of their answers are right."""

    low: int
    high: int
    sequences: int
    correct: Share


class Excerpt(Part):
    """As much of a sequence as fits in a line.

    Attributes:
        text: of a text; of tokens, those around the step.
        marked: the token in question, between `text` and `after`.
        series: of a time series, a list of readings for each of its first channels, every `stride`-th one.
    """

    text: str | None = None
    marked: str | None = None
    after: str | None = None
    series: list[list[float | None]] | None = None
    stride: int = 1
    timesteps: int


class Finding(Part):
    """An answer that differs from its label.

    Attributes:
        file, row: where the sequence stands: the line of a text file (a header is line 1), else the record.
        step: which of its steps, from 0, where each has a label.
        confidence: the probability of the answer.
        likelihood: the probability of the label.
        item: None where examples were left out.
    """

    file: str
    row: int
    step: int | None
    label: str
    answer: str
    confidence: float
    likelihood: float
    item: Excerpt | None


class Suspects(Part):
    """Labels that may be wrong.

    Attributes:
        source: whose answers they come from: models of cross-validation, that saw each row in no training, or the
            mistakes on held-out splits alone.
        folds: of the cross-validation.
        rows: answers that were looked at.
        found: suspects in all; `shown` are the first.
    """

    source: Literal["folds", "held_out"]
    folds: int
    rows: int
    found: int
    shown: list[Finding]


class Errors(Part):
    """Where the model errs.

    Attributes:
        split: whose answers were analysed.
        unseen: answers whose label training never saw.
    """

    split: str
    correct: Share
    unseen: int
    classes: list[ClassFigures]
    confusion: Confusion
    lengths: list[LengthGroup]
    mistakes: list[Finding]
    suspects: Suspects


class SplitFacts(Part):
    """One split.

    Attributes:
        lengths: least, median, 95 % quantile and greatest: characters of a text, else timesteps.
        classes: answers of each label.
        repeats: sequences whose content stands earlier in the split.
        in_train: sequences whose content stands in train too (for test: or in what validation took of it).
    """

    file: str
    rows: int
    lengths: tuple[int, int, int, int]
    classes: dict[str, int]
    repeats: int
    in_train: int


class DataFacts(Part):
    """What the model was trained and measured on.

    Attributes:
        conflicts: contents that stand in train more than once, with labels that disagree.
    """

    fingerprint: str
    splits: dict[str, SplitFacts]
    conflicts: int
    notes: list[str]


class Setting(Part):
    """One choice of the recipe."""

    name: str
    value: str
    reason: str


class Report(Part):
    """The whole report.

    Attributes:
        metrics: by split, measured on the reloaded artifact.
        refitted: whether the model was trained once more, on the validation rows too.
        comparison: the candidates and the choice, as the manifest's `training` has them.
        environment: versions and machine.
        command: that trains this model again; files by name, folders left out.
    """

    report_version: int = 1
    model: ModelFacts
    metrics: dict[str, dict[str, float]]
    refitted: bool
    comparison: dict[str, Any]
    certainty: Certainty
    errors: Errors
    data: DataFacts
    recipe: list[Setting]
    environment: dict[str, str]
    command: str
