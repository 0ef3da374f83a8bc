"""The one place where dbt is reached: its project, its profile, its manifest, its command line."""
