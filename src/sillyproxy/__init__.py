"""Sillyproxy: a blue-green and canary edge proxy configured by environment variables."""

__version__ = "0.1.0"
