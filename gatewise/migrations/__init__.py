"""The database's schema, revision by revision, for Alembic. A revision that was released is never edited."""
