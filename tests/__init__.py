"""The tests: one room for each of the package, found by the same name."""
