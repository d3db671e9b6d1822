package journal

import (
	"bytes"
	"errors"
	"slices"
)

// ErrPowerCut is what a Disk's owner returns from its hooks to cut the power there.
var ErrPowerCut = errors.New("power cut")

// Disk is a disk in memory for the simulator and tests: its contents outlive the Journals opened on
// it. A commit is atomic: cut before it nothing is there, cut after it everything is, though the
// caller was never told.
type Disk struct {
	keys   [][]byte // sorted
	values map[string][]byte
	// Before and After run around each commit; an error ends it there. Torn reports that a commit
	// that was cut left bytes behind; Open then drops them and says so.
	Before, After func() error
	torn          bool
}

// NewDisk is an empty disk.
func NewDisk() *Disk { return &Disk{values: map[string][]byte{}} }

// Tear leaves a half-written transaction behind, as a power cut in the middle of a write does.
func (d *Disk) Tear() { d.torn = true }

// OpenMem opens the journal on a disk in memory.
func OpenMem(d *Disk, opt Options) (*Journal, error) {
	e := &memEngine{Disk: d}
	if d.torn {
		e.mended, d.torn = "dropped a torn transaction", false
	}
	return open(e, opt)
}

type memEngine struct {
	*Disk
	mended string
}

func (e *memEngine) commit(puts []pair, deletes [][]byte) error {
	if e.Before != nil {
		if err := e.Before(); err != nil {
			return err
		}
	}
	for _, p := range puts {
		if _, ok := e.values[string(p.key)]; !ok {
			i, _ := slices.BinarySearchFunc(e.keys, p.key, bytes.Compare)
			e.keys = slices.Insert(e.keys, i, bytes.Clone(p.key))
		}
		e.values[string(p.key)] = bytes.Clone(p.value)
	}
	for _, k := range deletes {
		if i, ok := slices.BinarySearchFunc(e.keys, k, bytes.Compare); ok {
			e.keys = slices.Delete(e.keys, i, i+1)
			delete(e.values, string(k))
		}
	}
	if e.After != nil {
		return e.After()
	}
	return nil
}

func (e *memEngine) get(key []byte) ([]byte, bool, error) {
	v, ok := e.values[string(key)]
	return v, ok, nil
}

func (e *memEngine) scan(prefix, first []byte, f func(k, v []byte) (bool, error)) error {
	i, _ := slices.BinarySearchFunc(e.keys, first, bytes.Compare)
	for ; i < len(e.keys) && bytes.HasPrefix(e.keys[i], prefix); i++ {
		more, err := f(e.keys[i], e.values[string(e.keys[i])])
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (e *memEngine) repaired() string { return e.mended }
func (e *memEngine) free() uint64     { return 1 << 40 }
func (e *memEngine) close() error     { return nil }
