"""What a row is: the schema and the Pandera model of each table, and how rows of several sources become one table."""
