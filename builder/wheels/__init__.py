"""From a lock to checked wheels: collected, downloaded or built from source."""
