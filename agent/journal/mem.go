package journal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"

	"coinop/protocol"
)

// ErrPowerCut is what a Disk's owner returns from its hooks to cut the power there.
var ErrPowerCut = errors.New("power cut")

// Disk is a disk in memory for the simulator and tests: its contents outlive the Journals opened on
// it. It has both copies of a journal. A commit is atomic: cut before it nothing is there, cut after
// it everything is, though the caller was never told; torn, the sectors beside the one that was being
// written are spoiled too.
type Disk struct {
	keys   [][]byte // sorted
	values map[string][]byte
	undo   []func() // of the last transactions, oldest first
	file   []byte   // the second copy; nil: none
	frames []int    // where its last frames begin
	begun  protocol.Epoch
	lost   bool // the first copy does not open
	kept   int  // moved aside
	// Before and After run around each commit of a journal, Between when the second copy has it and
	// the first not yet; an error ends it there.
	Before, Between, After func() error
}

// undoMost is how many transactions Tear can take back.
const undoMost = 8

// NewDisk is an empty disk.
func NewDisk() *Disk { return &Disk{values: map[string][]byte{}} }

// Tear leaves the write that was under way half done, and damages what stood beside it: the last n
// transactions of one copy. In the first copy they are missing, as when Badger cuts a damaged file
// off; in the second a frame's bytes are wrong.
func (d *Disk) Tear(second bool, n int) {
	if second {
		if n = min(n, len(d.frames)); n > 0 && d.file != nil {
			d.file[d.frames[len(d.frames)-n]+frameHead] ^= 0x40
		}
		return
	}
	d.file = append(d.file, make([]byte, frameHead/2)...)
	for range min(n, len(d.undo)) {
		d.undo[len(d.undo)-1]()
		d.undo = d.undo[:len(d.undo)-1]
	}
}

// Spoil makes the first copy, or both, unreadable.
func (d *Disk) Spoil(both bool) {
	d.lost = true
	if both && d.file != nil {
		d.file[len(twinMagic)+frameHead] ^= 0x40
	}
}

// Aside is how often something was moved aside.
func (d *Disk) Aside() int { return d.kept }

// OpenMem opens the journal on a disk in memory.
func OpenMem(d *Disk, opt Options) (*Journal, error) { return open(d, opt) }

func (d *Disk) first() (engine, error) {
	if d.lost {
		return nil, ErrCorrupt
	}
	return memEngine{d}, nil
}

func (d *Disk) aside(both bool) (string, error) {
	d.kept++
	d.lost, d.keys, d.undo, d.values = false, nil, nil, map[string][]byte{}
	if both {
		d.file, d.frames = nil, nil
	}
	return "another folder", nil
}

func (d *Disk) epoch() (protocol.Epoch, bool)   { return d.begun, !d.begun.IsZero() }
func (d *Disk) setEpoch(e protocol.Epoch) error { d.begun = e; return nil }

func (d *Disk) open() (io.ReadCloser, error) {
	if d.file == nil {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(d.file)), nil
}

func (d *Disk) append(at int64, frame []byte) error {
	if d.Before != nil {
		if err := d.Before(); err != nil {
			return err
		}
	}
	d.file = append(d.file[:at], frame...)
	if d.frames = append(d.frames, int(at)); len(d.frames) > undoMost {
		d.frames = slices.Clone(d.frames[1:])
	}
	return nil
}

func (d *Disk) replace(write func(io.Writer) error) (int64, error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return 0, err
	}
	d.file, d.frames = b.Bytes(), nil
	return int64(b.Len()), nil
}

type memEngine struct{ *Disk }

func (e memEngine) commit(puts []pair, deletes [][]byte) error {
	if e.Between != nil {
		if err := e.Between(); err != nil {
			return err
		}
	}
	type was struct {
		key, value []byte // nil: it was not there
	}
	var before []was
	for _, p := range puts {
		before = append(before, was{p.key, e.values[string(p.key)]})
		e.put(p.key, bytes.Clone(p.value))
	}
	for _, k := range deletes {
		before = append(before, was{k, e.values[string(k)]})
		e.drop(k)
	}
	if e.undo = append(e.undo, func() {
		for _, w := range slices.Backward(before) {
			if w.value == nil {
				e.drop(w.key)
			} else {
				e.put(w.key, w.value)
			}
		}
	}); len(e.undo) > undoMost {
		e.undo = slices.Clone(e.undo[1:])
	}
	if e.After != nil {
		return e.After()
	}
	return nil
}

func (e memEngine) put(key, value []byte) {
	if _, ok := e.values[string(key)]; !ok {
		i, _ := slices.BinarySearchFunc(e.keys, key, bytes.Compare)
		e.keys = slices.Insert(e.keys, i, bytes.Clone(key))
	}
	e.values[string(key)] = value
}

func (e memEngine) drop(key []byte) {
	if i, ok := slices.BinarySearchFunc(e.keys, key, bytes.Compare); ok {
		e.keys = slices.Delete(e.keys, i, i+1)
		delete(e.values, string(key))
	}
}

func (e memEngine) get(key []byte) ([]byte, bool, error) {
	v, ok := e.values[string(key)]
	return v, ok, nil
}

func (e memEngine) scan(prefix, first []byte, f func(k, v []byte) (bool, error)) error {
	i, _ := slices.BinarySearchFunc(e.keys, first, bytes.Compare)
	for ; i < len(e.keys) && bytes.HasPrefix(e.keys[i], prefix); i++ {
		more, err := f(e.keys[i], e.values[string(e.keys[i])])
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (e memEngine) repaired() string { return "" }
func (e memEngine) tidy()            {}
func (e memEngine) free() uint64     { return 1 << 40 }
func (e memEngine) refill() error    { return nil }
func (e memEngine) close() error     { return nil }
