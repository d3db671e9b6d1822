package vivopay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReports: a ping alone, and frames of two and three reports.
func TestReports(t *testing.T) {
	t.Parallel()
	ping := unhex(t, "5669564F74656368320018010000B3CD")
	for _, c := range []struct {
		name string
		n    int // bytes of the frame
		ids  string
	}{
		{"63 bytes are one", 63, "01"},
		{"64 are two", 64, "0204"},
		{"126 are two", 126, "0204"},
		{"127 are three", 127, "020304"},
		{"253 are five", 253, "0203030304"},
		{"none", 0, ""},
	} {
		frame := bytes.Repeat([]byte{0xA5}, c.n)
		ids, whole := "", []byte(nil)
		for _, r := range Reports(frame) {
			part, ok := Part(r)
			if !ok || len(r) != 64 {
				t.Fatalf("%s: % x", c.name, r)
			}
			ids += hex.EncodeToString(r[:1])
			whole = append(whole, part...)
		}
		if ids != c.ids || !bytes.HasPrefix(whole, frame) || strings.Trim(string(whole[c.n:]), "\x00") != "" {
			t.Errorf("%s: ids %s, frame % x", c.name, ids, whole)
		}
	}
	if got := hex.EncodeToString(Reports(ping)[0]); got != "015669564f74656368320018010000b3cd"+strings.Repeat("00", 47) {
		t.Errorf("ping: %s", got)
	}
	for _, bad := range [][]byte{nil, make([]byte, 64), make([]byte, 63), append([]byte{5}, make([]byte, 63)...), append([]byte{1}, make([]byte, 64)...)} {
		if _, ok := Part(bad); ok {
			t.Errorf("% x is a report", bad)
		}
	}
}

// packets is a port of reports that were said, and are heard.
type packets struct {
	said, heard [][]byte
	end         error
}

func (p *packets) Read(b []byte) (int, error) {
	if len(p.said) == 0 {
		return 0, p.end
	}
	n := copy(b, p.said[0])
	p.said = p.said[1:]
	return n, nil
}

func (p *packets) Write(b []byte) (int, error) {
	p.heard = append(p.heard, bytes.Clone(b))
	return len(b), nil
}
func (p *packets) SetWriteDeadline(time.Time) error { return nil }
func (p *packets) Close() error                     { return nil }

// TestHIDPort: frames come out of reports whole, among what is no report, and what fills one up is no garbage.
func TestHIDPort(t *testing.T) {
	t.Parallel()
	long := unhex(t, online)
	far := &packets{end: io.EOF}
	far.said = append(far.said, []byte{9}, []byte("short"))
	far.said = append(far.said, Reports(unhex(t, "5669564F74656368320018000000FA83"))...)
	far.said = append(far.said, append([]byte{7}, make([]byte, 63)...))
	far.said = append(far.said, Reports(long)...)
	far.said = append(far.said, Reports(long)[:1]...) // its rest is lost
	far.said = append(far.said, Reports(long)...)
	p := hidPort{far}
	var d Decoder
	var got []int
	bad, buf := 0, make([]byte, 1024)
	for {
		n, err := p.Read(buf)
		d.Add(buf[:n])
		for {
			f, ok, err := d.Next()
			if !ok {
				break
			}
			if err != nil {
				bad++
				continue
			}
			got = append(got, len(f.Data))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		if len(got) == 2 && bad == 0 && d.Skipped != 0 {
			t.Errorf("%d bytes of garbage in whole reports", d.Skipped)
		}
	}
	if len(got) != 3 || got[0] != 0 || got[1] != 0x89 || got[2] != 0x89 || bad != 1 {
		t.Errorf("frames of %v bytes, %d spoiled", got, bad)
	}
	if n, err := p.Write(long); n != len(long) || err != nil || len(far.heard) != 3 {
		t.Errorf("%d, %v, %d reports", n, err, len(far.heard))
	}
}

// FuzzReports: whatever a frame is, its reports are it, and whatever a report is, its part is 63 bytes or none.
func FuzzReports(f *testing.F) {
	f.Add([]byte("ViVOtech2"), []byte{1})
	f.Add(unhex(f, online), bytes.Repeat([]byte{4}, 64))
	f.Fuzz(func(t *testing.T, frame, report []byte) {
		var whole []byte
		for _, r := range Reports(frame) {
			part, ok := Part(r)
			if !ok {
				t.Fatal("its own report is none")
			}
			whole = append(whole, part...)
		}
		if !bytes.HasPrefix(whole, frame) || len(whole)-len(frame) >= 63 {
			t.Fatal("not the frame")
		}
		if part, ok := Part(report); ok && len(part) != 63 {
			t.Fatal("a part of another size")
		}
	})
}

// TestKindOfNode: a link to a hidraw node is one; what is neither that nor a socket is a serial line.
func TestKindOfNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"hidraw7", "ttyUSB0"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, name), filepath.Join(dir, "to-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"to-hidraw7": "no HID device", "hidraw7": "no HID device", "to-ttyUSB0": "", "nowhere": "no such file"} {
		_, err := open(filepath.Join(dir, path), 115200)
		if err == nil || !strings.Contains(err.Error(), want) || want == "" && strings.Contains(err.Error(), "HID") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
