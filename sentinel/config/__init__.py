"""sentinel.yml: read, rendered, checked; secrets kept apart."""
