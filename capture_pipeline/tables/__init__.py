"""Declarations of the tables, and the models, views and documentation that are derived from them."""
