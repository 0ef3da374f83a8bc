"""sentinel.yml: read, rendered, checked; every fault with its line."""
