"""Advisories in the OSV format: reading a database, and matching versions."""
