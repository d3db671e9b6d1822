package protocol

// Version is the integer every message and record carries as v.
//
// One dated line per change:
//
//	1  2026-11-24  first version
const Version = 1
