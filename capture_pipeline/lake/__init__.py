"""Files of the lake: paths, atomic publication, checksums, manifests, Parquet, catalog.

The package depends on neither Dagster nor an exchange client.
"""
