"""Compare sillyproxy with other proxies at the same work (docs/benchmark.md)."""
