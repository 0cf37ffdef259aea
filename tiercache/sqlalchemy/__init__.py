"""SQLAlchemy: writes that invalidate, and reads that are cached."""
