"""Real data for the demonstrations, out of packages that the demo extra installs: no network, nothing to download.

Text: which language a name is in, from the names of countries, languages, scripts and currencies in the Unicode CLDR,
as Babel carries it. Series: JapaneseVowels, nine speakers told by how they say /ae/ (Kudo et al. 1999), as aeon carries
it, with its official split.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import shutil
from collections import defaultdict
from pathlib import Path

from gatewise.errors import MissingDependency

# Latin script all of them, so that no alphabet gives the answer away.
LANGUAGES = {
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fi": "Finnish",
    "fr": "French",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "lt": "Lithuanian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "sv": "Swedish",
    "tr": "Turkish",
    "vi": "Vietnamese",
}


def text_demo() -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """Names with their language: a header, and about 16,000 rows in an order that is mixed and always the same.

    A name that two of the languages share, whatever its capitals, has no one answer and is left out.

    Raises:
        MissingDependency: Babel is not installed.
    """
    try:
        from babel import Locale
    except ImportError:
        raise _missing("babel") from None

    languages: defaultdict[str, set[str]] = defaultdict(set)
    spelling: dict[str, str] = {}
    for code, language in LANGUAGES.items():
        locale = Locale.parse(code)
        for names in (locale.territories, locale.languages, locale.scripts, locale.currencies):
            for name in sorted(names.values()):
                spelling.setdefault(name.casefold(), name)
                languages[name.casefold()].add(language)
    rows = sorted((spelling[key], found.pop()) for key, found in languages.items() if len(found) == 1)
    random.Random(0).shuffle(rows)
    return ("text", "label"), rows


def write_text_demo(folder: str | Path) -> Path:
    """Write the names as a user's plain CSV file, unsplit, and return it."""
    header, rows = text_demo()
    path = Path(folder) / "languages.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def series_demo() -> tuple[Path, Path]:
    """The train and the test file of JapaneseVowels where aeon keeps them: 270 and 370 series of 12 channels.

    Raises:
        MissingDependency: aeon is not installed.
    """
    # Found, not imported: importing aeon compiles for seconds, and only its files are wanted.
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise _missing("aeon")
    data = Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"
    return data / "JapaneseVowels_TRAIN.ts", data / "JapaneseVowels_TEST.ts"


def write_series_demo(folder: str | Path) -> Path:
    """Write train.ts and test.ts of JapaneseVowels into `folder`, and return it."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for source, name in zip(series_demo(), ("train.ts", "test.ts"), strict=True):
        shutil.copyfile(source, target / name)
    return target


def _missing(package: str) -> MissingDependency:
    return MissingDependency(f"the demo's data comes from the package {package!r}: pip install 'gatewise[demo]'")
