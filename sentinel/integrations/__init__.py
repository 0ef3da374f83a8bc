"""Sentinel inside orchestrators. Each module needs the extra of its name."""
