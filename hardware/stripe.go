package hardware

import (
	"strings"
	"time"

	"coinop/protocol"
)

// JudgeStripe reads the service code (ISO/IEC 7813, table 5: three digits) and the expiry date (YYMM) of a bank
// card's stripe: how it counts as read, or the reason why it is not taken. chip: the stripe of a card with a
// chip is taken too, and whoever does bears the loss of a copied one. Zeros and stars are what a head that
// encrypts shows in their place: the host decides then.
func JudgeStripe(service, expiry string, chip bool, today time.Time) (protocol.EntryMode, string) {
	if expired(expiry, today) {
		return 0, ReasonExpired
	}
	entry := protocol.EntryStripe
	if len(service) != 3 || strings.Trim(service, "0*") == "" {
		return entry, ""
	}
	switch service[0] {
	case '2', '6': // a chip
		if !chip {
			return 0, ReasonUseChip
		}
		entry = protocol.EntryFallback
	case '7': // among whom it was agreed
		return 0, ReasonUnsupported
	}
	switch service[2] {
	case '0', '5': // PIN always
		return 0, ReasonPIN
	case '3': // cash machines only
		return 0, ReasonUnsupported
	}
	return entry, ""
}

// expired reports that a card's last month is over everywhere on earth. A clock that cannot be right says
// nothing.
func expired(yymm string, today time.Time) bool {
	end, err := time.Parse("0601", yymm)
	if err != nil || today.Year() < 2025 || today.Year() > 2080 {
		return false
	}
	if end.Year() < 2000 {
		end = end.AddDate(100, 0, 0)
	}
	return today.After(end.AddDate(0, 1, 0).Add(12 * time.Hour))
}
