"""What `capture demo` starts from: settings, the sandbox exchange's market, and a deployment's own outage."""
