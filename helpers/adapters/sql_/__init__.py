"""The manager's database: SQLite or PostgreSQL, by SQLAlchemy Core; its versions by Alembic."""
