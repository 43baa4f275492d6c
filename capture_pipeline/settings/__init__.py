"""Settings: models, their sources and their JSON schema."""
