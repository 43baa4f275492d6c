"""Schemas and Pandera models of the tables, and the merge of rows from several sources."""
