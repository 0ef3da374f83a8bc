"""Where state, history and outbox are kept: the tables that dbt manages."""
