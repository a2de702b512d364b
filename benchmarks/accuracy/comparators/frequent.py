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
    """The commonest tag of the word, else of its lower case, else of all words."""
    assert train.labels is not None
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for tokens, tags in zip(train.items, train.labels, strict=True):
        for token, tag in zip(tokens, tags, strict=True):
            for word in {token, token.lower(), ""}:
                counts[word][tag] += 1
    commonest = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}

    def tag(token: str) -> str:
        return commonest.get(token) or commonest.get(token.lower()) or commonest[""]

    return Answered([[[tag(token) for token in item] for item in part.items] for part in parts], len(commonest))


MAJORITY = Comparator("majority", _majority, takes=lambda each: True, once=True)
TAG_MAJORITY = Comparator("tag-majority", _tag_majority, takes=lambda each: each.kind == "text" and each.per_step)
