"""The outbox is emptied: claim, send outside of any transaction, mark.

At least once: a message may be sent again if this process dies between send and mark; it then
carries the same id. A channel that is slow, or that fails, holds up no other one.
"""
