"""Programs of other projects that tests run beside ours, built from the Go module proxy once and kept: see build.py."""
