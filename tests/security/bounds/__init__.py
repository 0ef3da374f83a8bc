"""Attacks on bounds, and on what is shipped and deployed."""
