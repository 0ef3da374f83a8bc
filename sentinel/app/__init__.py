"""The use cases: what a command or the daemon asks for, told in terms of the ports."""
