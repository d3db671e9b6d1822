package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"syscall"
)

// twin is an engine that keeps a second copy of all that the cloud may lack: a plain file of
// transactions, synced before each commit of the first copy. A disk that spoils a file spoils one of
// the two, and open makes it good from the other:
//
//   - the first copy is behind (Badger cuts a damaged write-ahead file off without a word): what it
//     lacks is done again;
//   - it cannot be opened, or its chain does not verify: it is moved aside and made anew;
//   - the second is torn, damaged or gone: it is written anew.
//
// It also sees a disk that is full, read-only or failing as an error of write, where Badger, which
// maps its files, would end the process with SIGBUS.
type twin struct {
	engine
	log   log
	n     uint64 // transactions so far; both copies carry it
	size  int64  // of the file
	again int64  // size at which it is written anew, without what was released
}

// log is the file of a twin.
type log interface {
	open() (io.ReadCloser, error) // fs.ErrNotExist: there is none
	// append writes at an offset, cuts the file after it, and syncs.
	append(at int64, frame []byte) error
	// replace puts another file in its place, whole and synced or not at all.
	replace(write func(io.Writer) error) (size int64, err error)
}

// keyCount stands in the first copy: how many transactions it has.
var keyCount = []byte("m/count")

// The file begins with twinMagic; then frames: length and CRC-32C of a payload, 4 bytes each, little
// endian. A payload is a kind and a transaction's number, then pairs and deleted keys. Frames of a
// base come first: all that was to be kept when the file was written.
const (
	twinMagic  = "coinop journal twin 1\n"
	frameHead  = 8
	frameMost  = 512 << 10 // Badger takes 15 % of a memtable in one transaction
	frameBase  = 'B'
	frameWhole = 'W' // the base ends: it is whole
	frameTx    = 'T'
	baseKeys   = 256
	baseBytes  = 128 << 10
	twinRoom   = 1 << 20 // bytes of transactions that may follow a base
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type frame struct {
	kind    byte
	n       uint64
	puts    []pair
	deletes [][]byte
}

func (f frame) bytes() []byte {
	b := make([]byte, frameHead, 512)
	b = append(b, f.kind)
	b = binary.AppendUvarint(b, f.n)
	text := func(t []byte) { b = append(binary.AppendUvarint(b, uint64(len(t))), t...) }
	b = binary.AppendUvarint(b, uint64(len(f.puts)))
	for _, p := range f.puts {
		text(p.key)
		text(p.value)
	}
	b = binary.AppendUvarint(b, uint64(len(f.deletes)))
	for _, k := range f.deletes {
		text(k)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameHead)) //nolint:gosec // far below
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[frameHead:], castagnoli))
	return b
}

func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) == 0 {
		return f, false
	}
	f.kind, b, ok = b[0], b[1:], true
	number := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			ok = false
			return 0
		}
		b = b[w:]
		return n
	}
	text := func() []byte {
		n := number()
		if n > uint64(len(b)) {
			ok = false
			return nil
		}
		t := b[:n:n]
		b = b[n:]
		return t
	}
	f.n = number()
	for n := number(); ok && n > 0; n-- {
		f.puts = append(f.puts, pair{text(), text()})
	}
	for n := number(); ok && n > 0; n-- {
		f.deletes = append(f.deletes, text())
	}
	return f, ok && len(b) == 0
}

// extent is what a twin's file holds.
type extent struct {
	there bool   // there is a file
	whole bool   // its base is
	from  uint64 // number of the base
	last  uint64 // number of the last good transaction
	size  int64  // up to the end of that
	base  int64  // up to the end of the base
}

// survey reads the file's good part and calls each with its frames in order; nil: nobody.
func survey(l log, each func(frame) error) (x extent, err error) {
	file, err := l.open()
	if err != nil {
		return x, err
	}
	defer file.Close()
	x.there = true
	r := bufio.NewReaderSize(file, 64<<10)
	magic := make([]byte, len(twinMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != twinMagic {
		return x, ended(err)
	}
	at := int64(len(magic))
	var head [frameHead]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return x, ended(err)
		}
		length := binary.LittleEndian.Uint32(head[:])
		if length > frameMost {
			return x, nil
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(r, payload); err != nil {
			return x, ended(err)
		}
		f, ok := parseFrame(payload)
		if !ok || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return x, nil
		}
		at += frameHead + int64(length)
		switch {
		case f.kind == frameBase && !x.whole:
		case f.kind == frameWhole && !x.whole:
			x.whole, x.from, x.last, x.size, x.base = true, f.n, f.n, at, at
		case f.kind == frameTx && x.whole && f.n == x.last+1:
			x.last, x.size = f.n, at
		default:
			return x, nil
		}
		if each != nil {
			if err := each(f); err != nil {
				return x, err
			}
		}
	}
}

// ended is nil for the end of a file, wherever in a frame it comes, and for a sector that cannot be
// read: the rest is lost, and the first copy has it.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
		return nil
	}
	return err
}

// redo does in e what the file has after its transaction number after; all of it when whole is set.
func redo(l log, e engine, after uint64, whole bool) error {
	_, err := survey(l, func(f frame) error {
		switch {
		case f.kind == frameBase && whole: // not counted before it is whole
			return e.commit(f.puts, nil)
		case f.kind == frameTx && f.n > after || whole && f.kind == frameWhole:
			return e.commit(append(f.puts, pair{keyCount, number(f.n)}), f.deletes)
		}
		return nil
	})
	return err
}

// counted is the number of an engine's last transaction.
func counted(e engine) (uint64, error) {
	b, ok, err := e.get(keyCount)
	if err != nil || !ok {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s", ErrCorrupt, keyCount)
	}
	return binary.BigEndian.Uint64(b), nil
}

func (t *twin) commit(puts []pair, deletes [][]byte) error {
	f := frame{kind: frameTx, n: t.n + 1, puts: puts, deletes: deletes}
	b := f.bytes()
	if len(b) > frameMost { // it would stand there and could never be done
		return fmt.Errorf("a transaction of %d bytes", len(b))
	}
	if err := t.log.append(t.size, b); err != nil {
		return err
	}
	if err := t.engine.commit(append(puts[:len(puts):len(puts)], pair{keyCount, number(f.n)}), deletes); err != nil {
		return err
	}
	t.n, t.size = f.n, t.size+int64(len(b))
	if t.size >= t.again {
		if err := t.anew(); err != nil { // the old one is whole and goes on
			t.again = t.size + twinRoom
		}
	}
	return nil
}

// anew writes the file from the first copy: all but records that may be forgotten.
func (t *twin) anew() error {
	kept, err := oldestKept(t.engine)
	if err != nil {
		return err
	}
	size, err := t.log.replace(func(w io.Writer) error {
		if _, err := io.WriteString(w, twinMagic); err != nil {
			return err
		}
		f, size := frame{kind: frameBase, n: t.n}, 0
		flush := func() error {
			_, err := w.Write(f.bytes())
			f.puts, size = f.puts[:0], 0
			return err
		}
		for _, p := range []struct{ prefix, first []byte }{{blobPrefix, blobPrefix}, {metaPrefix, metaPrefix}, {recordPrefix, recordKey(kept)}} {
			err := t.scan(p.prefix, p.first, func(k, v []byte) (bool, error) {
				if bytes.Equal(k, keyCount) { // each frame says it
					return true, nil
				}
				f.puts, size = append(f.puts, pair{bytes.Clone(k), bytes.Clone(v)}), size+len(k)+len(v)
				if len(f.puts) < baseKeys && size < baseBytes {
					return true, nil
				}
				return true, flush()
			})
			if err != nil {
				return err
			}
		}
		if err := flush(); err != nil {
			return err
		}
		_, err := w.Write(frame{kind: frameWhole, n: t.n}.bytes())
		return err
	})
	if err != nil {
		return err
	}
	t.size, t.again = size, size+max(size, twinRoom)
	return nil
}
