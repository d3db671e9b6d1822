package protocol

// Version is the integer every message and record carries as v.
//
// One dated line per change:
//
//	1  2026-11-24  first version
//	1  2026-11-26  sealed cards along a chain; nothing of the form before is in the field
//	1  2026-11-27  closed-loop cards: sealed-card.13, codes 6 to 9, acquirer-state.3, auth 5; still nothing is in the field
const Version = 1
