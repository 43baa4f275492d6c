"""Local order books: synchronisation with snapshots, and price levels. The package opens no file and no socket."""
