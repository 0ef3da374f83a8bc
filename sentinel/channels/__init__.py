"""One module a channel: a message goes out, or a DeliveryError says whether to try again.

A channel is a class with a `Settings` model, registered as an entry point of the group
`sentinel.channels`; its name there is the `type` in sentinel.yml. `contract.py` says what it has to
be, `registry.py` finds it.
"""
