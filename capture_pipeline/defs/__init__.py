"""Dagster definitions.

A function here takes its partition and resources, calls the domain, and returns metadata.
`shared` contains the parts that all subjects use; each subject has its own package. Modules outside `defs` do
not import it.
"""
