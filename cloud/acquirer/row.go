package acquirer

import "coinop/protocol"

// The rows of authorizations are encoded by hand, to the same bytes as protocol.Encode makes of them: most of what
// a cloud encodes are these, twice with each authorization. TestRows compares both, field by field.

// Encode is the operation as it is stored.
func (o Op) Encode() []byte {
	var f protocol.Fields
	if o.Key != (OpKey{}) {
		f.Encoded(1, o.Key.encode())
	}
	text(&f, 2, o.Link)
	if o.Merchant != (Merchant{}) {
		f.Encoded(3, o.Merchant.encode())
	}
	number(&f, 4, o.STAN)
	text(&f, 5, o.DE7)
	if o.SentDE7 != nil {
		f.Encoded(6, protocol.AppendTexts(nil, o.SentDE7))
	}
	text(&f, 7, o.RRN)
	text(&f, 8, o.LocalTime)
	f.Amount(9, o.Amount) // an array is written when it is zero, too
	f.Amount(10, o.Actual)
	number(&f, 11, o.Purpose)
	number(&f, 12, o.Entry)
	text(&f, 13, o.AuthID)
	text(&f, 14, o.Reason)
	if o.Original != (Original{}) {
		f.Encoded(15, o.Original.encode())
	}
	if o.Repeat {
		f.Bool(16, true)
	}
	if o.WriteBy != 0 {
		f.Int(17, int64(o.WriteBy))
	}
	if o.AnswerBy != 0 {
		f.Int(18, int64(o.AnswerBy))
	}
	return f.Map()
}

func (k OpKey) encode() []byte {
	f := protocol.Fields{Size: 96}
	if !k.Payment.IsZero() {
		f.Bytes(1, k.Payment[:])
	}
	number(&f, 2, k.Kind)
	number(&f, 3, k.N)
	return f.Map()
}

func (m Merchant) encode() []byte {
	f := protocol.Fields{Size: 96}
	f.Text(1, m.TID)
	f.Text(2, m.MID)
	f.Text(3, m.MCC)
	f.Text(4, m.Country)
	text(&f, 5, m.Location)
	return f.Map()
}

func (o Original) encode() []byte {
	f := protocol.Fields{Size: 96}
	f.Text(1, o.MTI)
	f.Uint(2, uint64(o.STAN))
	f.Text(3, string(o.DE7))
	f.Text(4, o.Acquirer)
	text(&f, 5, o.Forwarder)
	return f.Map()
}

// Encode is the profile as it is stored.
func (p Profile) Encode() []byte {
	f := protocol.Fields{Size: 96}
	text(&f, 1, p.Name)
	number(&f, 2, p.Flow)
	if p.T1MS != 0 {
		f.Int(3, p.T1MS)
	}
	if p.LateWindowMS != 0 {
		f.Int(4, p.LateWindowMS)
	}
	if p.STANPerRepeat {
		f.Bool(5, true)
	}
	text(&f, 6, p.ReversalAmount)
	text(&f, 7, p.ReversalFirst)
	if p.CanQuery {
		f.Bool(8, true)
	}
	text(&f, 9, p.Institution)
	return f.Map()
}

// text and number leave out what is zero.
func text[T ~string](f *protocol.Fields, k uint64, s T) {
	if s != "" {
		f.Text(k, string(s))
	}
}

func number[T ~uint8 | ~uint32](f *protocol.Fields, k uint64, v T) {
	if v != 0 {
		f.Uint(k, uint64(v))
	}
}
