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
				if p.Device = o.Device; see != nil {
					see(o)
				}
			}
		}
		return nil
	})
	if err == nil && !x.whole {
		err = fmt.Errorf("%w: second copy of %s", ErrCorrupt, dir)
	}
	return p, err
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
