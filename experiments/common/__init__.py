"""What the commands share: command line, files, folders, devices, progress, provenance, tests."""
