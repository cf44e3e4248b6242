"""Helpers of every room: argument checks, atomic files, subprocesses, terminal, statistics."""
