"""Files of the lake: paths, atomic publication, checksums, manifests, Parquet, catalogue.

The package depends on neither Dagster nor an exchange client.
"""
