"""Causes of full databases, produced on real servers by real clients, and what must be said."""
