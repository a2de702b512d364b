"""Who may import whom, read off the source: training -> gatewise <- service; each heavy library behind its own door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gatewise", "training", "service")


class Import(NamedTuple):
    """One import statement: where it stands, what it names, and whether it runs when the file is imported."""

    file: str
    line: int
    module: str
    at_import: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(outer)
        for inner in ast.walk(outer)
    }
    file = path.relative_to(ROOT).as_posix()
    for node in ast.walk(tree):
        at_import = id(node) not in later
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, at_import)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{file}:{node.lineno}: imports are absolute here, so that they can be read at a glance"
            )
            assert node.module is not None
            yield Import(file, node.lineno, node.module, at_import)
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}", at_import)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _all_imports() -> list[Import]:
    return [
        found for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for found in _imports(path)
    ]


def _top(module: str) -> str:
    return module.partition(".")[0]


def _package(file: str) -> str:
    return file.partition("/")[0]


def test_the_walk_sees_every_package() -> None:
    assert {_package(found.file) for found in _all_imports()} == set(PACKAGES)


def test_training_and_service_never_import_each_other() -> None:
    wrong = {"training": "service", "service": "training"}
    assert not [str(found) for found in _all_imports() if wrong.get(_package(found.file)) == _top(found.module)]


def test_the_library_imports_neither_but_for_the_command_line_inside_functions() -> None:
    assert not [
        str(found)
        for found in _all_imports()
        if _package(found.file) == "gatewise"
        and _top(found.module) in ("training", "service")
        and (not found.file.startswith(("gatewise/cli.py", "gatewise/commands/")) or found.at_import)
    ]


def test_nothing_but_the_other_entry_point_imports_the_command_line() -> None:
    assert {found.file for found in _all_imports() if found.module == "gatewise.cli"} <= {"training/__main__.py"}
    of_commands = {found.file for found in _all_imports() if found.module.startswith("gatewise.commands")}
    assert not {file for file in of_commands if not file.startswith(("gatewise/cli.py", "gatewise/commands/"))}


@pytest.mark.parametrize(
    ("libraries", "homes"),
    [
        (
            ("torch",),
            (
                "gatewise/model.py",
                "gatewise/convolution.py",
                "gatewise/gru.py",
                "gatewise/torch_engine.py",
                "training/",
            ),
        ),
        (("pytorch_lightning", "lightning", "torchmetrics", "tensorboard"), ("training/",)),
        (("bentoml", "_bentoml_sdk", "_bentoml_impl"), ("gatewise/store.py", "service/")),
        (("onnxruntime",), ("gatewise/engines.py", "training/")),
        (("onnx", "h5py", "optuna", "pyarrow", "aeon", "babel", "scipy", "sklearn"), ("training/",)),
        (("starlette", "prometheus_client", "pydantic_settings"), ("service/",)),
        (
            ("sqlalchemy", "alembic", "psycopg"),
            ("gatewise/database.py", "gatewise/feedback.py", "gatewise/jobs.py", "gatewise/migrations/"),
        ),
        (("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"), ()),
    ],
)
def test_a_library_is_imported_in_its_own_place_only(libraries: tuple[str, ...], homes: tuple[str, ...]) -> None:
    assert not [
        str(found) for found in _all_imports() if _top(found.module) in libraries and not found.file.startswith(homes)
    ]


def test_the_store_imports_bentoml_only_when_it_writes() -> None:
    assert not [
        str(found)
        for found in _all_imports()
        if found.file == "gatewise/store.py" and _top(found.module) == "bentoml" and found.at_import
    ]


def test_what_stores_feedback_is_imported_only_when_feedback_comes() -> None:
    stores = ("gatewise.database", "gatewise.feedback", "gatewise.jobs")
    homes = (
        "gatewise/feedback.py",
        "gatewise/jobs.py",
        "training/retrain.py",
        "training/snapshot.py",
        "training/watch.py",
    )
    late = ("training.retrain", "training.snapshot", "training.watch")
    assert not [
        str(found)
        for found in _all_imports()
        if found.at_import and (found.module in stores or found.module in late) and found.file not in homes
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_modules_of_a_package_import_each_other_without_a_cycle(package: str) -> None:
    modules = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for found in _all_imports():
        importer = found.file.removesuffix(".py").replace("/", ".")
        if importer in modules and found.module in modules and found.at_import:
            graph[importer].add(found.module)
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gatewise", ("torch", "bentoml", "onnxruntime")),
        ("gatewise.store", ("torch", "bentoml", "onnxruntime")),
        ("gatewise.predictor", ("torch", "bentoml", "pytorch_lightning", "scipy", "sklearn")),
        ("service.app", ("torch", "pytorch_lightning", "training", "sklearn", "pandas", "sqlalchemy", "alembic")),
        ("training.readers", ("torch", "pytorch_lightning", "bentoml")),
        ("training.finished", ("torch", "pytorch_lightning", "bentoml", "optuna")),
    ],
)
def test_importing_a_module_does_not_load_what_it_does_not_need(
    module: str, absent: tuple[str, ...], tmp_path: Path
) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    environment = {"PYTHONPATH": str(ROOT), "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
