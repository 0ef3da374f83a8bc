"""Bounds: what no input, size or address can exceed."""
