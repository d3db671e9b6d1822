package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coinop/cloud/store"
)

// ErrNoLedger means that no cloud ever ran in that folder.
var ErrNoLedger = errors.New("no ledger there")

// OpenLedger opens the ledger of a cloud in dir, beside a cloud that runs or after it; it makes none
// and touches no keys. ErrNoLedger when there is none.
func OpenLedger(ctx context.Context, dir string) (*store.Store, error) {
	path := filepath.Join(dir, ledgerFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoLedger)
	} else if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return nil, fmt.Errorf("open the ledger in %s: %w", dir, err)
	}
	return st, nil
}
