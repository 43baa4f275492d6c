"""What Dagster sees of golden samples: sessions as partitions, recorded by processes that outlive it."""
