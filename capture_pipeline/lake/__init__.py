"""Where files live: paths, atomic publication, checksums, manifests, the catalogue. Knows no exchange and no Dagster."""
