"""The use cases of commands and the daemon, written against the ports."""
