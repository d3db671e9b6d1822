package payment

import "coinop/protocol"

// Encode is the row as it is stored, the same bytes as protocol.Encode makes of it: see acquirer.Op.Encode.
func (p Payment) Encode() []byte {
	var f protocol.Fields
	f.Bytes(1, p.ID[:])
	f.Bytes(2, p.Sale[:])
	f.Text(3, string(p.Device))
	f.Text(4, p.Tenant)
	f.Uint(5, uint64(p.Lane))
	f.Uint(6, uint64(p.Class))
	f.Bytes(7, p.AskHash[:])
	f.Uint(8, uint64(p.State))
	f.Uint(9, uint64(p.Purpose))
	f.Uint(10, uint64(p.Entry))
	f.Text(11, p.Local)
	f.Amount(12, p.Asked)
	f.Amount(13, p.Approved)
	f.Amount(14, p.Captured)
	f.Encoded(15, p.Profile.Encode())
	f.Uint(16, uint64(p.AuthN))
	f.Uint(17, uint64(p.ApprovedN))
	f.Uint(18, uint64(p.Undone))
	f.Uint(19, uint64(p.Undoing))
	f.Int(20, int64(p.AnswerBy))
	f.Int(21, int64(p.WriteBy))
	f.Int(22, int64(p.LeaseUntil))
	f.Int(23, int64(p.ReleaseAt))
	f.Int(24, int64(p.Received))
	f.Uint(25, uint64(p.VoidFlag))
	f.Bool(26, p.Frozen)
	f.Bool(27, p.Booked)
	f.Amount(28, p.Owing)
	f.Uint(29, uint64(p.Cause))
	f.Text(30, p.RRN)
	f.Text(31, p.AuthID)
	f.Position(32, p.Outcome)
	said := protocol.Fields{Size: 16}
	said.Uint(1, uint64(p.Said.Disposition))
	said.Uint(2, uint64(p.Said.Quarantine))
	f.Encoded(33, said.Map())
	if len(p.Answer) > 0 {
		f.Encoded(34, p.Answer)
	}
	if len(p.Gone) > 0 {
		f.Encoded(35, p.Gone)
	}
	f.Int(36, int64(p.AnswerAt))
	if p.By != 0 {
		f.Uint(37, uint64(p.By))
	}
	f.Amount(38, p.Change)
	if p.Done {
		f.Bool(39, true)
	}
	return f.Map()
}
