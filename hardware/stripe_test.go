package hardware

import (
	"testing"
	"time"

	"coinop/protocol"
)

func TestJudgeStripe(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, service, expiry string
		chip                  bool
		today                 time.Time
		entry                 protocol.EntryMode
		reason                string
	}{
		{"without a chip", "101", "3012", false, day, protocol.EntryStripe, ""},
		{"a chip, and its stripe is not taken", "201", "3012", false, day, 0, ReasonUseChip},
		{"national, the same", "601", "3012", false, day, 0, ReasonUseChip},
		{"a chip, and its stripe is taken", "201", "3012", true, day, protocol.EntryFallback, ""},
		{"and wants a PIN", "220", "3012", true, day, 0, ReasonPIN},
		{"wants a PIN", "105", "3012", false, day, 0, ReasonPIN},
		{"cash machines only", "103", "3012", false, day, 0, ReasonUnsupported},
		{"among some", "701", "3012", false, day, 0, ReasonUnsupported},
		{"masked", "000", "0000", false, day, protocol.EntryStripe, ""},
		{"expired", "101", "2510", true, day, 0, ReasonExpired},
		{"a clock that cannot be right", "101", "2511", false, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), protocol.EntryStripe, ""},
		{"the last day of the last place", "101", "2611", false, time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC), protocol.EntryStripe, ""},
	} {
		if entry, reason := JudgeStripe(c.service, c.expiry, c.chip, c.today); entry != c.entry || reason != c.reason {
			t.Errorf("%s: %v, %q", c.name, entry, reason)
		}
	}
}
