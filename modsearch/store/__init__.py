"""What lies on a disk or a storage: a study directory, its lock, and copies that workers share."""
