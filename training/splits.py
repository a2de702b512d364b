"""Train, valid and test: the files that the user has, and what is divided here where one is not given.

Valid and test are never taken from a file that was given as the other, and the test file is never looked at to divide.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidConfig, InvalidData
from training.dataset import Dataset
from training.files import find_files
from training.partition import divide, divide_groups
from training.readers import Columns, ReadOptions, read_with_sister

FEW_SEQUENCES = 10
BLOCKS, SHORTEST_BLOCK, LONGEST_BLOCK = 20, 32, 512

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Attributes:
        test: None where there is neither a test file nor a file to take one from.
        columns: the names of the columns of sequences and labels in the train file.
        notes: sentences for the user: what was divided and how, and what to know of it.
        valid_in_train: (len(valid),), True at an item whose content stands in train too.
        test_in_train: (len(test),), True at an item whose content stands in train, or in what valid took of it; leave
            these out for a score without duplicates. None without a test.
        divided: whether the validation rows were taken from the train file, and not given.
    """

    train: Dataset
    valid: Dataset
    test: Dataset | None
    columns: Columns
    notes: list[str]
    valid_in_train: Mask
    test_in_train: Mask | None
    divided: bool = False

    def parts(self) -> dict[str, Dataset]:
        """The parts that there are, by name."""
        named = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def read_splits(
    data: str | Path,
    *,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    options: ReadOptions | None = None,
    seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Splits:
    """Read a data set and divide what its files do not.

    One file alone gives train, valid and test; beside a test file it gives train and valid; with a valid file and no
    test file there is no test.

    Args:
        data: a file, or a folder that holds train, and maybe valid and test, files.
        seed: decides which items go where; the same seed and file divide alike.
    Raises:
        InvalidData: a file is wrong, or holds too little to learn from.
    """
    _check_fractions(valid_fraction, test_fraction)
    files = find_files(data, valid=valid, test=test)
    whole, sister = read_with_sister(files.train, options or ReadOptions())
    check_classes(whole)
    given_valid = sister.read(files.valid) if files.valid is not None else None
    given_test = sister.read(files.test) if files.test is not None else None
    for other in (given_valid, given_test):
        if other is not None:
            _check_alike(whole, other)
    notes: list[str] = []
    train, made_valid, made_test = whole, given_valid, given_test
    if given_valid is None:
        fractions = [valid_fraction] if given_test is not None else [valid_fraction, test_fraction]
        cut = _cut_where_few(whole, notes)
        train, made_valid, made_test_part = _carve(cut, fractions, seed, notes)
        made_test = given_test if given_test is not None else made_test_part
    elif given_test is None:
        notes.append(f"No test file was given and none was taken from {whole.source}, so there is no test score.")
    assert made_valid is not None
    return _with_notes(train, made_valid, made_test, sister.columns, notes, divided=given_valid is None)


def check_classes(dataset: Dataset) -> None:
    """Raise InvalidData unless the labels are classes that can be learnt: two at least, and repeated."""
    counts = Counter(label for labels in dataset.label_sets() for label in labels)
    rows = len(dataset)
    if rows < 2 and dataset.task == "sequence":
        raise InvalidData("holds a single row", path=dataset.source, mend="Give at least two rows of each class")
    if len(counts) < 2:
        problem = f"every label is {next(iter(counts))!r}"
        raise InvalidData(
            problem, path=dataset.source, mend="Give rows of two classes at least, or name the label column"
        )
    if dataset.task != "sequence" or rows < 3:
        return
    if len(counts) == rows:
        mend = "Name the column of classes with --label COL"
        raise InvalidData(f"each of the {rows} rows has a label of its own", path=dataset.source, mend=mend)
    if len(counts) > max(20, rows // 4) and all(map(_is_fraction_or_number, counts)) and any("." in c for c in counts):
        problem = f"the labels are {len(counts)} different numbers, which looks like a quantity and not like classes"
        raise InvalidData(problem, path=dataset.source, mend="Put them in classes, or name another column with --label")


def item_key(item: Any) -> str | bytes:
    """Return what two items share if and only if their content is the same: a text itself, or a digest."""
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return hashlib.blake2b("\0".join(item).encode(), digest_size=16).digest()
    return hashlib.blake2b(item.tobytes(), digest_size=16, salt=str(item.shape).encode()[:16]).digest()


# --- checks


def _check_fractions(valid: float, test: float) -> None:
    if not 0 < valid < 1:
        raise InvalidConfig(f"valid_fraction is {valid} and must lie between 0 and 1")
    if not 0 <= test < 1 or valid + test >= 1:
        raise InvalidConfig(f"test_fraction is {test} and must leave something to train on")


def _check_alike(train: Dataset, other: Dataset) -> None:
    """Raise unless a sister file's series have as many channels as train's."""
    if train.channels is None or other.channels is None or len(train.channels) == len(other.channels):
        return
    problem = f"has {len(other.channels)} channels where {train.source} has {len(train.channels)}"
    raise InvalidData(problem, path=other.source, mend="Give files with the same channels")


def _is_fraction_or_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


# --- dividing


def _carve(
    dataset: Dataset, fractions: Sequence[float], seed: int, notes: list[str]
) -> tuple[Dataset, Dataset, Dataset | None]:
    """Divide into train, valid and, with a second fraction that is not 0, test."""
    fractions = [fraction for fraction in fractions if fraction]
    rng = np.random.default_rng(seed)
    label_sets = dataset.label_sets()
    if dataset.groups is not None:
        parts = divide_groups(label_sets, dataset.groups, fractions, rng)
        how = f"whole groups together ({len(set(dataset.groups))} groups), with like shares of the classes"
    else:
        units = _units(dataset, notes)
        parts = divide(label_sets, units, fractions, rng)
        how = "stratified by label, items of the same content together"
    if not len(parts[1]):
        problem = f"{len(dataset)} rows are too few to take a validation part of them and keep every class in train"
        raise InvalidData(problem, path=dataset.source, mend="Give more rows, or a file of them with --valid")
    told = [f"{len(part)} for {name}" for name, part in zip(("train", "valid", "test"), parts, strict=False)]
    notes.append(f"{dataset.source} was divided into {_and(told)}: {how}, seed {seed}.")
    made = [dataset.take(part) for part in parts]
    has_test = len(made) > 2 and len(made[2]) > 0
    if len(made) > 2 and not has_test:
        notes.append("There were too few rows to take a test part as well, so there is no test score.")
    return made[0], made[1], made[2] if has_test else None


def _units(dataset: Dataset, notes: list[str]) -> list[int]:
    """Number the items by content; say how many repeat one, and how many contents have labels that disagree."""
    numbers: dict[str | bytes, int] = {}
    units = [numbers.setdefault(item_key(item), len(numbers)) for item in dataset.items]
    repeats = len(units) - len(numbers)
    if repeats:
        notes.append(
            f"{repeats} of the {len(units)} items of {dataset.source} repeat another; all of a kind stay together."
        )
    return units


def _cut_where_few(dataset: Dataset, notes: list[str]) -> Dataset:
    """Cut sequences with a label for each step into blocks, where there are too few of them to divide."""
    if dataset.task != "step" or len(dataset) >= FEW_SEQUENCES:
        return dataset
    steps = sum(map(len, dataset.items))
    if steps < 4:
        problem = f"holds {steps} steps, too few to divide"
        raise InvalidData(problem, path=dataset.source, mend="Give a longer sequence, or a file for --valid")
    length = min(int(np.clip(steps // BLOCKS, SHORTEST_BLOCK, LONGEST_BLOCK)), max(1, steps // 4))
    blocks = [(i, a, b) for i, item in enumerate(dataset.items) for a, b in _blocks(len(item), length)]
    assert dataset.labels is not None
    what = "its one sequence" if len(dataset) == 1 else f"its {len(dataset)} sequences"
    notes.append(
        f"{dataset.source}: {what} of {steps} steps in all was cut into {len(blocks)} blocks of {length} consecutive "
        "steps, which are divided whole; blocks that meet at a border are alike, so a test file of another time is a "
        "stricter test."
    )
    return replace(
        dataset,
        items=[dataset.items[i][a:b] for i, a, b in blocks],
        labels=[dataset.labels[i][a:b] for i, a, b in blocks],
        rows=dataset.rows[[i for i, _, _ in blocks]],
    )


def _blocks(steps: int, length: int) -> list[tuple[int, int]]:
    """Return the spans of the blocks; a rest shorter than half a block joins the last one."""
    starts = list(range(0, max(steps - length // 2, 1), length))
    return list(zip(starts, [*starts[1:], steps], strict=True))


# --- notes


def _with_notes(
    train: Dataset, valid: Dataset, test: Dataset | None, columns: Columns, notes: list[str], *, divided: bool
) -> Splits:
    parts = {"valid": valid, "test": test} if test is not None else {"valid": valid}
    keys = {name: [item_key(item) for item in part.items] for name, part in {"train": train, **parts}.items()}
    conflicts = conflicting(train, keys["train"])
    if conflicts:
        notes.append(f"{conflicts} contents stand in train more than once with labels that disagree.")
    known = frozenset[str]().union(*train.label_sets())
    for name, part in parts.items():
        notes += _unseen(part, name, known)
    # Items that valid took from the training file count as train for the test: the model was chosen on them.
    seen = set(keys["train"])
    masks = {"valid": _mask(keys["valid"], seen)}
    if test is not None:
        masks["test"] = _mask(keys["test"], seen | set(keys["valid"]) if divided else seen)
    for name, mask in masks.items():
        if mask.any():
            told = f"{int(mask.sum())} of {len(mask)} {name} items stand in train too"
            notes.append(f"{told}; the score without them is the fairer one.")
    return Splits(train, valid, test, columns, notes, masks["valid"], masks.get("test"), divided)


def _mask(keys: Sequence[str | bytes], seen: set[str | bytes]) -> Mask:
    return np.fromiter((key in seen for key in keys), dtype=np.bool_, count=len(keys))


def conflicting(dataset: Dataset, keys: Sequence[str | bytes]) -> int:
    """How many contents stand in a data set more than once with labels that disagree.

    Args:
        keys: of each item, by `item_key`.
    """
    assert dataset.labels is not None
    first: dict[str | bytes, Any] = {}
    pairs = zip(keys, dataset.labels, strict=True)
    return len({key for key, label in pairs if first.setdefault(key, label) != label})


def _unseen(part: Dataset, name: str, known: frozenset[str]) -> list[str]:
    label_sets = part.label_sets()
    unseen = sorted(frozenset[str]().union(*label_sets) - known)
    if not unseen:
        return []
    items = sum(1 for labels in label_sets if labels - known)
    shown = ", ".join(map(repr, unseen[:10])) + (f" and {len(unseen) - 10} more" if len(unseen) > 10 else "")
    return [f"{items} {name} items have labels that train has none of, and will be counted wrong: {shown}."]


def _and(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
