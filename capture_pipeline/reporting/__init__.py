"""HTML pages, Markdown and charts of reports."""
