//go:build race

package journal

func init() { lifeRecords = 20_000 } // the race detector makes five of one
