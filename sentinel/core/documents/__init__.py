"""The shapes of what programs read: the JSON documents and the payload of a notification.

They are typed dictionaries described for pydantic. `make reference` writes the JSON Schemas in
sentinel/schemas and the tables of the reference from them, and mypy checks the code that fills
them. Every key is always present. Times are ISO 8601 in UTC and end in Z.
"""
