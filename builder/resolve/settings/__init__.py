"""Settings that decide a resolution: the header, configuration files, variables, overrides."""
