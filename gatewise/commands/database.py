"""The database that commands share with the service."""

from __future__ import annotations

import importlib.util
import os

from gatewise.errors import MissingDependency


def database_url() -> str:
    """GATEWISE_DATABASE, or the file beside the models.

    Raises:
        MissingDependency: what reads it is not installed.
    """
    for package in ("sqlalchemy", "alembic", "psycopg"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(f"feedback and jobs need {package}: pip install 'gatewise[feedback]'")
    from gatewise.feedback import default_url

    return os.environ.get("GATEWISE_DATABASE") or default_url()
