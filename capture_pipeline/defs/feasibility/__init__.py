"""What Dagster sees of feasibility: benchmarks and reports as assets, their criteria as checks, and the verdict on all of them."""
