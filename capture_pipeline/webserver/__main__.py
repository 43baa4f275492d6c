"""Run the webserver."""

from capture_pipeline.collector import pause_collector

with pause_collector():
    from capture_pipeline.webserver.app import main

main()
