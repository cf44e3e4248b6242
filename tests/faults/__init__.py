"""Faults found by attack: a campaign of damaged files, kills, full disks and clashes.

`python -m tests.faults --minutes 10` tries every campaign; docs/faults.md has the last full run.
"""
