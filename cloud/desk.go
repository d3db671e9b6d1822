package cloud

import (
	crand "crypto/rand"
	"time"

	"coinop/cloud/account"
	"coinop/cloud/store"
	"coinop/protocol"
)

// NewDesk is where accounts of closed-loop cards are opened and loaded, beside a cloud that runs over the same ledger
// or after it.
func NewDesk(st *store.Store) account.Desk {
	return account.Desk{
		Do: st.DoAccount, Now: func() protocol.UnixMS { return protocol.At(time.Now()) },
		NewID: func(now protocol.UnixMS) account.ID {
			var r [10]byte
			_, _ = crand.Read(r[:]) // it never fails
			return account.ID(protocol.NewID[struct{}](now, r))
		},
	}
}
