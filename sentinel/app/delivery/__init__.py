"""The outbox is emptied: claim, send outside of any transaction, mark.

At least once: a message may be sent again if this process dies between send and mark; it then
carries the same id. A slow or failing channel delays no other channel.
"""
