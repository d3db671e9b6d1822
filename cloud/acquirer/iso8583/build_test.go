package iso8583

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"
)

const testTrack = "5413330089020011=25122010123456789"

func testContract() Contract {
	return Contract{Profile: acquirer.Profile{Name: "bank", Flow: acquirer.DualFinal, Institution: "123456"}, PIN: CanPIN}
}

// authorization is the contactless 0100 of the frames; its response is theirs too.
func authorization() acquirer.Op {
	return acquirer.Op{
		Key:      acquirer.OpKey{Payment: protocol.PaymentID{1}, Kind: acquirer.Authorization, N: 1},
		Merchant: acquirer.Merchant{TID: "KIOSK001", MID: "000000012345678", MCC: "5814", Country: "756"},
		STAN:     103, DE7: "1122093002", SentDE7: []acquirer.Stamp{"1122093002"}, RRN: "632610000103",
		LocalTime: "1122103002", Amount: money.New(250, money.EUR), Purpose: protocol.Exact, Entry: protocol.EntryContactless,
	}
}

func trackCard(t testing.TB) acquirer.Card {
	t.Helper()
	tr, err := card.ParseTrack2(testTrack)
	if err != nil {
		t.Fatal(err)
	}
	icc, err := hex.DecodeString("9F26085F6E3C1A2B4D7E909F2701809F10120110A00003220000000000000000000000FF9F3704A1B2C3D49F36020042" +
		"950500000080009A032611229C01009F02060000000002505F2A020978820219809F1A0207569F03060000000000009F33036008C89F34031F0300" +
		"9F3501259F1E084B494F534B3030318407A00000000410105F340100")
	if err != nil {
		t.Fatal(err)
	}
	return acquirer.Card{PAN: tr.PAN(), Expiry: tr.Expiry(), Track2: tr, PSN: []byte{0}, ICC: icc}
}

func keptCard(t testing.TB) acquirer.Card {
	c := trackCard(t)
	return acquirer.Card{PAN: c.PAN, Expiry: c.Expiry}
}

// follow is an operation after the requests of 12:04 in the frames, made with a key-entered card.
func follow(k acquirer.Kind) acquirer.Op {
	op := authorization()
	op.Key.Kind, op.Entry = k, protocol.EntryManual
	return op
}

func TestBuildIsTheFrameTheHostTook(t *testing.T) {
	t.Parallel()
	full := follow(acquirer.Reversal)
	full.Amount, full.STAN, full.DE7, full.LocalTime = money.New(9991, money.EUR), 107, "1122093106", "1122103005"
	full.RRN, full.Reason = "632610000106", "68"
	full.Original = acquirer.Original{MTI: "0200", STAN: 106, DE7: "1122093005", Acquirer: "123456"}
	again := full
	again.Repeat = true
	partial := follow(acquirer.PartialReversal)
	partial.Amount, partial.STAN, partial.DE7, partial.LocalTime = money.New(1500, money.EUR), 109, "1122093208", "1122103004"
	partial.Actual, partial.Entry, partial.RRN, partial.Reason = money.New(1000, money.EUR), protocol.EntryStripe, "632610000105", "32"
	partial.Original = acquirer.Original{MTI: "0200", STAN: 105, DE7: "1122093004", Acquirer: "123456"}
	whole, kept := trackCard(t), keptCard(t)
	for _, c := range []struct {
		name, vector string
		op           acquirer.Op
		card         *acquirer.Card
		pin          PINCapability
	}{
		{"contactless", "0100 contactless auth, request", authorization(), &whole, CanPIN},
		{"reversal", "0420 reversal advice for it, request", full, &kept, PINUnstated},
		{"repeat", "0421 repeat, request", again, &kept, PINUnstated},
		{"partial reversal", "0220 partial dispense: partial reversal of 15.00 down to the 10.00 dispensed, request", partial, &kept, CanPIN},
	} {
		contract := testContract()
		contract.PIN = c.pin
		m, err := contract.Build(c.op, c.card)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := ASCII87().AppendFrame(nil, m)
		if want := find(t, c.vector).frame; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%X, want\n%X", c.name, err, got, want)
		}
	}
}

func TestBuildOthers(t *testing.T) {
	t.Parallel()
	capture := follow(acquirer.Capture)
	capture.AuthID, capture.Reason = "100001", "00"
	capture.Original = acquirer.Original{MTI: "0100", STAN: 103, DE7: "1122093002", Acquirer: "123456"}
	capture.Amount, capture.STAN, capture.DE7, capture.Entry = money.New(200, money.EUR), 110, "1122093100", protocol.EntryContactless
	again := capture
	again.Repeat = true
	refund := capture
	refund.Key.Kind = acquirer.Refund
	bare := follow(acquirer.Reversal)
	bare.Reason, bare.Original = "22", capture.Original
	single := testContract()
	single.Flow = acquirer.Single
	kept, pin := keptCard(t), keptCard(t)
	pin.PINBlock, pin.KSN = []byte{0x1B, 0x9C, 0x18, 0x45, 0xEB, 0x99, 0x3A, 0x7A}, []byte{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0, 0, 1}
	pin.PSN = []byte{0x12}
	const orig = " 90=010000010311220930020000012345600000000000"
	const where = " 41=KIOSK001 42=000000012345678 49=978"
	for _, c := range []struct {
		name string
		by   Contract
		op   acquirer.Op
		card *acquirer.Card
		want string
	}{
		{"capture", testContract(), capture, &kept, "0220 2=* 3=000000 4=000000000200 7=1122093100 11=000110 12=103002 13=1122 14=* " +
			"18=5814 19=756 22=071 25=27 32=123456 37=632610000103 38=100001 39=00" + where + orig},
		{"capture again", testContract(), again, &kept, "0221 2=* 3=000000 4=000000000200 7=1122093100 11=000110 12=103002 13=1122 14=* " +
			"18=5814 19=756 22=071 25=27 32=123456 37=632610000103 38=100001 39=00" + where + orig},
		{"refund", testContract(), refund, &kept, "0200 2=* 3=200000 4=000000000200 7=1122093100 11=000110 12=103002 13=1122 14=* " +
			"18=5814 19=756 22=071 25=27 32=123456 37=632610000103 38=100001 39=00" + where + orig},
		{"reversal without a card", testContract(), bare, nil, "0420 3=000000 4=000000000250 7=1122093002 11=000103 12=103002 13=1122 " +
			"18=5814 19=756 22=011 25=27 32=123456 37=632610000103 39=22" + where + orig},
		{"single, with PIN", single, authorization(), &pin, "0200 2=* 3=000000 4=000000000250 7=1122093002 11=000103 12=103002 13=1122 14=* " +
			"18=5814 19=756 22=071 23=012 25=27 26=12 32=123456 37=632610000103" + where + " 52=* 53=2001010100000000 62=*"},
	} {
		m, err := c.by.Build(c.op, c.card)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := m.String(); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
		if _, err := ASCII87().Pack(nil, m); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestEntryModes(t *testing.T) {
	t.Parallel()
	for e, want := range map[protocol.EntryMode]string{
		protocol.EntryUnknown: "002", protocol.EntryManual: "012", protocol.EntryBarcode: "032", protocol.EntryChip: "052",
		protocol.EntryContactless: "072", protocol.EntryStripe: "902", protocol.EntryFallback: "802", protocol.EntryMSD: "912",
	} {
		op, c := authorization(), trackCard(t)
		op.Entry = e
		m, err := Contract{}.Build(op, &c)
		if err != nil || m.Get(22) != want {
			t.Errorf("%v: DE22 %q, %v; want %s", e, m.Get(22), err, want)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	whole := trackCard(t)
	reversal := follow(acquirer.Reversal)
	reversal.Reason, reversal.Original = "68", acquirer.Original{MTI: "0100", STAN: 1, DE7: "1122093002"}
	partial := reversal
	partial.Key.Kind, partial.Actual = acquirer.PartialReversal, money.New(100, money.EUR)
	for name, c := range map[string]struct {
		op   acquirer.Op
		edit func(*acquirer.Op, *acquirer.Card)
	}{
		"no kind":             {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.Key.Kind = 0 }},
		"amount 0":            {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.Amount.Minor = 0 }},
		"amount of 13 digits": {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.Amount.Minor = 1_000_000_000_000 }},
		"no currency":         {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.Amount.Currency = 0 }},
		"STAN 0":              {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.STAN = 0 }},
		"STAN of 7 digits":    {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.STAN = 1_000_000 }},
		"no DE7":              {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.DE7 = "" }},
		"no local time":       {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.LocalTime = "1030" }},
		"no TID":              {authorization(), func(o *acquirer.Op, _ *acquirer.Card) { o.Merchant.TID = "" }},
		"card without number": {authorization(), func(_ *acquirer.Op, c *acquirer.Card) { *c = acquirer.Card{} }},
		"PIN block of 7":      {authorization(), func(_ *acquirer.Op, c *acquirer.Card) { c.PINBlock = make([]byte, 7) }},
		"no original":         {reversal, func(o *acquirer.Op, _ *acquirer.Card) { o.Original = acquirer.Original{} }},
		"no reason":           {reversal, func(o *acquirer.Op, _ *acquirer.Card) { o.Reason = "" }},
		"actual = amount":     {partial, func(o *acquirer.Op, _ *acquirer.Card) { o.Actual = o.Amount }},
		"actual in francs":    {partial, func(o *acquirer.Op, _ *acquirer.Card) { o.Actual = money.New(100, money.CHF) }},
	} {
		op, card := c.op, whole
		if _, err := testContract().Build(op, &card); err != nil {
			t.Fatalf("%s: refused before the edit: %v", name, err)
		}
		c.edit(&op, &card)
		if _, err := testContract().Build(op, &card); !errors.Is(err, ErrBuild) || strings.Contains(err.Error(), "5413") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := testContract().Build(authorization(), nil); !errors.Is(err, ErrBuild) {
		t.Errorf("authorization without a card: %v", err)
	}
}
