"""The data sets: where their files stand in the data folder, how they are read, and what is to be reached.

Goals are of the mean over seeds, in percent, trained from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.dataset import Dataset
from training.readers import ReadOptions, read
from training.splits import Splits, read_splits


@dataclass(frozen=True)
class Goal:
    """What a test score is to reach.

    Attributes:
        percent: to reach; stretch: beyond it.
        split: `test`, or `test_2` for a set with a second test file.
    """

    percent: float
    stretch: float | None = None
    metric: str = "accuracy"
    split: str = "test"


@dataclass(frozen=True)
class BenchmarkSet:
    """A data set.

    Attributes:
        train, valid, test, second_test: files in the data folder; what is None is divided from train, and a set without
            both has a test of its own split.
        reading: of `ReadOptions`.
        per_step: whether each step has a label.
    """

    name: str
    kind: str
    train: str
    valid: str | None = None
    test: str | None = None
    second_test: str | None = None
    goals: tuple[Goal, ...] = ()
    per_step: bool = False
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the set is judged by."""
        return self.goals[0].metric if self.goals else "accuracy"

    def path(self, data: Path, part: str) -> Path | None:
        """Where the file of a part (`train`, `valid`, `test`, `second_test`) stands; None where there is none."""
        name = getattr(self, part)
        return data / name if name else None

    def splits(self, data: Path, seed: int) -> Splits:
        """The parts that training divides with this seed."""
        parts = {part: self.path(data, part) for part in ("valid", "test")}
        return read_splits(data / self.train, **parts, options=ReadOptions(**self.reading), seed=seed)

    def second(self, data: Path) -> Dataset | None:
        """The second test, where there is one."""
        path = self.path(data, "second_test")
        return read(path, ReadOptions(**self.reading)) if path else None


def _archive(name: str, percent: float, stretch: float) -> BenchmarkSet:
    """A set of the UCR and UEA archive."""
    files = (f"{name}/{name}_{part}.ts.gz" for part in ("TRAIN", "TEST"))
    train, test = files
    return BenchmarkSet(name, "series", train, test=test, goals=(Goal(percent, stretch),))


_LONG = {"order_by": "date", "label": "Occupancy"}
_SNIPS = ("snips/train.jsonl.gz", "snips/valid.jsonl.gz", "snips/test.jsonl.gz")
_SST2 = ("sst2/train_phrases.csv.gz", "sst2/valid.csv.gz", "sst2/test.csv.gz")
_CHINESE = ("chnsenticorp/train.tsv.gz", "chnsenticorp/valid.tsv.gz", "chnsenticorp/test.tsv.gz")
_TAGS = ("ud_english_ewt/train.jsonl.gz", "ud_english_ewt/valid.jsonl.gz", "ud_english_ewt/test.jsonl.gz")
_OCCUPANCY = ("occupancy/train.csv.gz", None, "occupancy/test_1.csv.gz", "occupancy/test_2.csv.gz")

SETS = {
    each.name: each
    for each in (
        BenchmarkSet("trec", "text", "trec/train.csv.gz", test="trec/test.csv.gz", goals=(Goal(91.0, 93.6),)),
        BenchmarkSet("sst2", "text", *_SST2, goals=(Goal(85.5, 87.5),)),
        BenchmarkSet("imdb", "text", "imdb/train.jsonl.gz", test="imdb/test.jsonl.gz", goals=(Goal(92.2, 92.8),)),
        BenchmarkSet("chnsenticorp", "text", *_CHINESE, goals=(Goal(93.5, 94.0),)),
        BenchmarkSet("snips", "text", *_SNIPS, goals=(Goal(98.0, 98.6),), reading={"label": "label"}),
        BenchmarkSet(
            *("snips_slots", "text", *_SNIPS),
            goals=(Goal(93.6, 94.2, "span_f1"),),
            per_step=True,
            reading={"label": "tags"},
        ),
        BenchmarkSet("sms_spam", "text", "sms_spam/sms.csv"),
        BenchmarkSet("ud_english_ewt", "text", *_TAGS, goals=(Goal(95.9, 96.5),), per_step=True),
        _archive("JapaneseVowels", 99.2, 99.5),
        _archive("NATOPS", 95.6, 97.8),
        BenchmarkSet(
            *("PenDigits", "series", "PenDigits/train.parquet"),
            test="PenDigits/test.parquet",
            goals=(Goal(99.1, 99.3),),
        ),
        BenchmarkSet(
            *("uci_har_subset", "series", "uci_har_subset/train.parquet"),
            test="uci_har_subset/test.parquet",
            goals=(Goal(94.5, 96.7),),
        ),
        BenchmarkSet(
            *("mnist_rows", "series", "mnist_rows/train.npz"),
            test="mnist_rows/test.npz",
            goals=(Goal(99.2, 99.4),),
        ),
        _archive("GunPoint", 99.3, 100.0),
        _archive("ArrowHead", 84.0, 90.0),
        _archive("OSULeaf", 97.0, 99.0),
        _archive("ACSF1", 88.0, 93.0),
        BenchmarkSet(
            *("BasicMotions", "series", "BasicMotions/BasicMotions_TRAIN.ts.gz"),
            test="BasicMotions/BasicMotions_TEST.ts.gz",
            goals=(Goal(100.0),),
        ),
        BenchmarkSet(
            *("occupancy", "series", *_OCCUPANCY),
            goals=(Goal(97.7), Goal(98.5, split="test_2")),
            per_step=True,
            reading=_LONG,
        ),
    )
}
