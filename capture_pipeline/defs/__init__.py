"""What Dagster sees. A function here takes its partition and resources, calls the domain and returns metadata; it decides nothing else.

What belongs to all subjects stands beside this file, each subject in a folder of its own. Nothing outside `defs` imports it.
"""
