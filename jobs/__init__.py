"""Ray job entry points, one a file: parse, load the configuration, call the driver, print one JSON line."""
