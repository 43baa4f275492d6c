"""Run the webserver."""

from capture_pipeline.webserver.app import main

main()
