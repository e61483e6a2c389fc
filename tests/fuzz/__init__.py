"""Feeds the playbook reader what no person would write, and what a tired one might."""
