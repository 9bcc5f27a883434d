"""What every room may use: errors, configs, run directories."""
