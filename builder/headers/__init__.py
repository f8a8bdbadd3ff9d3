"""Metadata for scripts without a header: from requirements files, projects and locks."""
