"""Jobs on this machine: processes that share one environment."""
