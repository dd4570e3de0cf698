"""What lies on a disk: whole files, a study directory, its lock, copies on a storage."""
