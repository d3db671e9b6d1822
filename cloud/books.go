package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"coinop/cloud/store"
)

// ErrNoLedger means that no cloud ever ran in that folder.
var ErrNoLedger = errors.New("no ledger there")

// OpenLedger is Place.OpenLedger with the ledger in a file.
func OpenLedger(ctx context.Context, dir string) (*store.Store, error) {
	return Place{Dir: dir}.OpenLedger(ctx)
}

// OpenLedger opens the ledger of a cloud, beside a cloud that runs or after it; it makes no file and
// touches no keys. ErrNoLedger when there is no file. (In a database it makes the tables.)
func (p Place) OpenLedger(ctx context.Context) (*store.Store, error) {
	if p.Store == "" {
		if _, err := os.Stat(p.ledger()); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", p.ledger(), ErrNoLedger)
		} else if err != nil {
			return nil, err
		}
	}
	return p.open(ctx)
}
