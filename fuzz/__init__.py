"""Differential fuzzing of the HTTP/1.1 rules against h11. See docs/fuzzing.md."""
