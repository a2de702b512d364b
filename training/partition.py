"""Dividing items into parts: stratified by label, whole units together, the same for the same seed.

A unit is what must not be torn apart: the items of one group, or items of the same content. K classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
ROWS_FOR_EVERY_PART = 5


def strata(label_sets: Sequence[frozenset[str]]) -> list[str]:
    """Return the label that each item is stratified by: the rarest of its own."""
    counts = Counter(label for labels in label_sets for label in labels)
    rarest = {labels: min(labels, key=lambda label: (counts[label], label)) for labels in set(label_sets)}
    return [rarest[labels] for labels in label_sets]


def divide(
    label_sets: Sequence[frozenset[str]], units: Sequence[int], fractions: Sequence[float], rng: np.random.Generator
) -> list[Indices]:
    """Divide items so that every part has its share of every class.

    Args:
        label_sets: the labels of each item.
        units: the number of each item's unit; a unit goes to one part whole.
        fractions: the share of each part but the first, which gets the rest and every class there is.
    Returns:
        the items of each part in rising order; a part stays empty where there are too few units for it.
    """
    classes = strata(label_sets)
    members: dict[int, list[int]] = defaultdict(list)
    for item, unit in enumerate(units):
        members[unit].append(item)
    by_class: dict[str, list[list[int]]] = defaultdict(list)
    for held in members.values():
        common = classes[held[0]] if len(held) == 1 else Counter(classes[item] for item in held).most_common(1)[0][0]
        by_class[common].append(held)
    parts = _by_class(by_class, fractions, rng)
    return _finish(parts, label_sets)


def _by_class(
    by_class: dict[str, list[list[int]]], fractions: Sequence[float], rng: np.random.Generator
) -> list[list[list[int]]]:
    """Return the units of each part; what rounding leaves of one class is carried to the next."""
    parts: list[list[list[int]]] = [[] for _ in range(len(fractions) + 1)]
    carried = [0.0] * len(fractions)
    for name in sorted(by_class):
        units = [by_class[name][i] for i in rng.permutation(len(by_class[name]))]
        size = sum(map(len, units))
        for part, fraction in enumerate(fractions):
            wanted = size * fraction + carried[part]
            goal = max(wanted, 1.0) if len(units) >= ROWS_FOR_EVERY_PART and fraction else wanted
            taken, units = _take(units, goal)
            parts[part + 1] += taken
            carried[part] = float(np.clip(wanted - sum(map(len, taken)), -1, 1))
        parts[0] += units
    return parts


def _take(units: list[list[int]], goal: float) -> tuple[list[list[int]], list[list[int]]]:
    """Take units until `goal` items are reached as nearly as they allow; one unit at least is left."""
    taken: list[list[int]] = []
    left: list[list[int]] = []
    size = 0
    for i, unit in enumerate(units):
        is_last_left = not left and i == len(units) - 1
        if not is_last_left and size + len(unit) / 2 <= goal:
            taken.append(unit)
            size += len(unit)
        else:
            left.append(unit)
    return taken, left


def divide_groups(
    label_sets: Sequence[frozenset[str]], groups: Sequence[str], fractions: Sequence[float], rng: np.random.Generator
) -> list[Indices]:
    """Divide items as `divide` does, whole groups together: the largest first, each to the part that it suits best."""
    names, units = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    labels, codes = np.unique(strata(label_sets), return_inverse=True)
    counts = np.zeros((len(names), len(labels)))
    np.add.at(counts, (units, codes), 1)
    members: dict[int, list[int]] = defaultdict(list)
    for item, unit in enumerate(units.tolist()):
        members[unit].append(item)
    shares = np.array([1 - sum(fractions), *fractions])
    goals = shares[:, None] * counts.sum(axis=0)
    held = np.zeros_like(goals)
    parts: list[list[list[int]]] = [[] for _ in shares]
    order = rng.permutation(len(names))
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        # How far beneath its goal the group finds each part, by the classes that the group has, in shares of the goal.
        need = ((goals - held) / np.maximum(goals, 1e-9)) @ counts[unit]
        part = int(np.argmax(need))
        held[part] += counts[unit]
        parts[part].append(members[int(unit)])
    return _finish(parts, label_sets)


def _finish(parts: list[list[list[int]]], label_sets: Sequence[frozenset[str]]) -> list[Indices]:
    """Give the first part every class, and each other part something where there is a unit to spare."""
    known = {label for labels in {label_sets[item] for unit in parts[0] for item in unit} for label in labels}
    for part in parts[1:]:
        kept: list[list[int]] = []
        for group in part:
            labels = {label for item in group for label in label_sets[item]}
            (kept if labels <= known else parts[0]).append(group)
            known |= labels
        part[:] = kept
    for part in parts[1:]:
        if not part and (spare := _spare(parts[0], label_sets)) is not None:
            part.append(parts[0].pop(spare))
    return [np.array(sorted(item for unit in part for item in unit), dtype=np.int64) for part in parts]


def _spare(units: list[list[int]], label_sets: Sequence[frozenset[str]]) -> int | None:
    """Return the smallest unit whose every label another unit has too."""
    sets = [frozenset().union(*(label_sets[item] for item in unit)) for unit in units]
    counts = Counter(label for labels in sets for label in labels)
    spare = [i for i, labels in enumerate(sets) if all(counts[label] > 1 for label in labels)]
    return min(spare, key=lambda i: (len(units[i]), -min(counts[label] for label in sets[i])), default=None)
