"""Kills, failing disks, power cuts and races: `python -m tests.crash` runs all of it, tests/test_crash.py a part."""
