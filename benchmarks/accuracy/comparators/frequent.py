"""The most frequent label: of all, and of each word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

from benchmarks.accuracy.answers import Answers
from benchmarks.accuracy.comparators.interface import Answered, Comparator
from training.dataset import Dataset


def _majority(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    assert train.labels is not None
    labels = train.labels if train.task == "sequence" else chain.from_iterable(train.labels)
    commonest = Counter(labels).most_common(1)[0][0]

    def answers(part: Dataset) -> Answers:
        return [commonest if part.task == "sequence" else [commonest] * len(item) for item in part.items]

    return Answered([answers(part) for part in parts], parameters=1)


def _tag_majority(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    """The commonest tag of the word as it is spelled, else in lower case, else of all words."""
    assert train.labels is not None
    tokens, tags = list(chain.from_iterable(train.items)), list(chain.from_iterable(train.labels))
    spelled = _commonest(tokens, tags)
    lowered = _commonest([token.lower() for token in tokens], tags)
    of_all = Counter(tags).most_common(1)[0][0]

    def tag(token: str) -> str:
        return spelled.get(token) or lowered.get(token.lower(), of_all)

    answers = [[[tag(token) for token in item] for item in part.items] for part in parts]
    return Answered(answers, parameters=len(spelled) + len(lowered) + 1)


def _commonest(tokens: list[str], tags: list[str]) -> dict[str, str]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for token, tag in zip(tokens, tags, strict=True):
        counts[token][tag] += 1
    return {token: found.most_common(1)[0][0] for token, found in counts.items()}


MAJORITY = Comparator("majority", _majority, takes=lambda each: True, once=True)
TAG_MAJORITY = Comparator("tag-majority", _tag_majority, takes=lambda each: each.kind == "text" and each.per_step)
