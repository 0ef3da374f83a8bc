"""One module a channel: a message goes out, or a DeliveryError says whether to try again."""
