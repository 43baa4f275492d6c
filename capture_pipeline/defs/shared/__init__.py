"""Parts of the definitions that several subjects use."""
