//go:build race

package payment_test

// The race detector makes a minute of what takes ten seconds, and the models play one thing after the other: a seed is
// enough for it. make test plays five without it.
func init() { *seeds = 1 }
