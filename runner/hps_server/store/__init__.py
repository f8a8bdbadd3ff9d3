"""What the embedded HPS stores: objects in a database, files on disk."""
