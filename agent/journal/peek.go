package journal

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coinop/protocol"
)

// Peeked is what can be known of a journal without opening it.
type Peeked struct {
	Device   protocol.DeviceID
	Head     protocol.Position
	Released protocol.Seq
	First    protocol.Seq // of the records that are kept; 0: none
	Records  int
	// Chain says where the records do not follow each other, or do not end at Head; nil: they do. It wraps
	// ErrCorrupt.
	Chain error
	// Torn are bytes after the last whole transaction: the last write was cut off, is under way, or the file
	// is spoiled. Opening the journal makes it good from the first copy.
	Torn int64

	last protocol.Position
}

// Peek reads the second copy of the journal in dir, and changes nothing; see, when not nil, is called
// with its records in order. fs.ErrNotExist: there is none.
func Peek(dir string, see func(protocol.Opened)) (Peeked, error) {
	var p Peeked
	x, err := survey(&folder{dir: dir}, func(f frame) error {
		for _, put := range f.puts {
			switch {
			case string(put.key) == string(keyHead):
				if err := protocol.DecodeExact(put.value, &p.Head); err != nil {
					return err
				}
			case string(put.key) == string(keyReleased) && len(put.value) == 8:
				p.Released = protocol.Seq(binary.BigEndian.Uint64(put.value))
			case len(put.key) == len(recordPrefix)+8 && string(put.key[:2]) == string(recordPrefix):
				o, err := protocol.OpenRecord(put.value)
				if err != nil {
					return err
				}
				p.follow(o)
				if see != nil {
					see(o)
				}
			}
		}
		return nil
	})
	if err == nil && !x.whole {
		err = fmt.Errorf("%w: second copy of %s", ErrCorrupt, dir)
	}
	if st, e := os.Stat(dir + ".twin"); e == nil {
		p.Torn = max(0, st.Size()-x.size)
	}
	if p.Chain == nil && p.Records > 0 && p.last != p.Head {
		p.Chain = fmt.Errorf("%w: it ends at record %d, want %d", ErrCorrupt, p.last.Seq, p.Head.Seq)
	}
	return p, err
}

// follow takes the next record in.
func (p *Peeked) follow(o protocol.Opened) {
	switch {
	case p.Chain != nil:
	case p.Records == 0:
		if p.First = o.Position.Seq; p.First == 1 && o.Prev != (protocol.Hash{}) {
			p.Chain = fmt.Errorf("%w: record 1 is not the first", ErrCorrupt)
		}
	case o.Position.Seq != p.last.Seq+1 || o.Prev != p.last.Hash || o.Position.Epoch != p.last.Epoch || o.Device != p.Device:
		p.Chain = fmt.Errorf("%w: record %d does not follow record %d", ErrCorrupt, o.Position.Seq, p.last.Seq)
	}
	p.Device, p.last = o.Device, o.Position
	p.Records++
}

// Measured is what a journal takes of its disk, in bytes.
type Measured struct {
	Free, Ballast, Used int64
	Damaged             int // folders that were moved aside
}

// Measure looks at the journal in dir; what cannot be seen counts as nothing.
func Measure(dir string) Measured {
	f := &folder{dir: dir}
	m := Measured{Free: int64(f.free())} //nolint:gosec // of a disk
	size := func(path string) int64 {
		st, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return blocks(st)
	}
	m.Ballast, m.Used = size(dir+".ballast"), size(dir+".twin")
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			m.Used += size(path)
		}
		return nil
	})
	kept, _ := filepath.Glob(dir + ".damaged-*")
	for _, k := range kept {
		if st, err := os.Stat(k); err == nil && st.IsDir() {
			m.Damaged++
		}
	}
	return m
}
