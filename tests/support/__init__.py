"""What tests and benchmarks share: a private network, the Go daemon, our own processes."""
