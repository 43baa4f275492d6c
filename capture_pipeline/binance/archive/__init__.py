"""The public archive: names, listings and checksums of files, and parsers of what is in them."""
