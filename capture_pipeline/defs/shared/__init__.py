"""Parts of the definitions that several groups of assets use."""
