"""Results of jobs on disk: the folder, its records, and the page over them."""
