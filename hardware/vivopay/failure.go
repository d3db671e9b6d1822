package vivopay

import (
	"coinop/hardware"
	"coinop/protocol/card"
)

// tagFailure holds the error code, SW1, SW2 and the state of the exchange.
const tagFailure card.Tag = 0xFFEE1F

const attributions = 1 // bytes before the data objects of 02-40

// failure names the error code of a failed transaction. Of 02-01 it is the first byte of the data; of 02-40 it
// stands in FFEE1F behind a byte of attributes (NEO 2 Interface Developer's Guide, 8.5.2 and 8.5.3).
func failure(data []byte) string {
	if len(data) == 0 {
		return hardware.ReasonReader
	}
	code := data[0]
	if len(data) > attributions {
		_ = card.EachTLV(data[attributions:], func(tag card.Tag, value, _ []byte) {
			if tag == tagFailure && len(value) > 0 {
				code = value[0]
			}
		})
	}
	if reason, ok := failures[code]; ok {
		return reason
	}
	return hardware.ReasonReader
}

// failures are the codes that a buyer can do something about; the others (00 none, 01 out of sequence, 03
// amount zero, 50 no key of the scheme's, 61 memory, 62 general, 73 log, 80 and 82 to 88 settings) are the
// reader's own. From 20 on they are as in the guide's table 8; those marked [B] are known from the vendor's
// interface for programs only, where 01 and 03 are too.
var failures = map[byte]string{
	0x02: hardware.ReasonUseContact,  // go to the contact interface [B]
	0x04: hardware.ReasonUseContact,  // to another interface [B]
	0x05: hardware.ReasonUseContact,  // to the contact interface nearby [B]
	0x06: hardware.ReasonUseContact,  // to the stripe [B]
	0x20: hardware.ReasonCardError,   // the card answered with an error
	0x21: hardware.ReasonCollision,   // more than one card
	0x22: hardware.ReasonOverLimit,   // over the reader's limit without contact
	0x23: hardware.ReasonUnsupported, // its money on the card is too little, and what came cannot go to a bank: no cryptogram
	0x24: hardware.ReasonCardError,   // torn away
	0x25: hardware.ReasonBlocked,
	0x26: hardware.ReasonExpired,
	0x27: hardware.ReasonUnsupported, // no application in common
	0x30: hardware.ReasonCardError,   // it did not respond
	0x40: hardware.ReasonUnsupported, // a data element nobody knows [B]
	0x41: hardware.ReasonUnsupported, // one is missing [B]
	0x42: hardware.ReasonDeclined,    // AAC
	0x43: hardware.ReasonDeclined,    // ARQC, and the reader is set to offline only
	0x44: hardware.ReasonUnsupported, // no data authentication that both know
	0x51: hardware.ReasonUnsupported, // data authentication failed: the issuer's key
	0x52: hardware.ReasonUnsupported, // static data
	0x53: hardware.ReasonUnsupported, // the card's key
	0x54: hardware.ReasonUnsupported, // its signature
	0x55: hardware.ReasonUnsupported, // not valid for this, here, or today [B]
	0x56: hardware.ReasonDeclined,    // risk management [B]
	0x57: hardware.ReasonPIN,         // its holder cannot be verified here [B]
	0x58: hardware.ReasonDeclined,    // action analysis [B]
	0x70: hardware.ReasonCardError,   // of the contact interface [B]
	0x81: hardware.ReasonCardError,   // what the card said is no TLV
}

// shown reports that an event of the reader's display tells the buyer to insert or swipe: message 08 of its
// own, 18, 1C or 1D of EMV's (Contactless Book A, message identifiers); alone, or behind the type of the display,
// 03 [B: the guide has the parts of an event, and no sample of one].
func shown(data []byte) bool {
	if len(data) == 2 && data[0] == 0x03 {
		data = data[1:]
	}
	if len(data) != 1 {
		return false
	}
	switch data[0] {
	case 0x08, 0x18, 0x1C, 0x1D:
		return true
	}
	return false
}
