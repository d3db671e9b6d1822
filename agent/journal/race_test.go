//go:build race

package journal

// The race detector makes five seconds of one: a part is enough for it. make test runs all without it.
func init() {
	lifeRecords, killRounds, tidyBatches = 20_000, 3, 160
	for _, how := range []string{"empty", "bit early", "bit late", "block"} {
		delete(spoils, how)
	}
}
