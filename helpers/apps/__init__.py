"""Thin programs: settings → adapters → service → exit code."""
