"""What engines for batch schedulers share: job script, submission, records of outcomes."""
