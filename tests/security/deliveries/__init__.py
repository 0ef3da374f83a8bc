"""Deliveries end in time, and only the receiver accepts."""
