package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"coinop/protocol"
)

// resident is how much of a folder's tables is mapped, and how much of that is in memory, in KB.
func resident(t *testing.T, dir string) (size, rss int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range bytes.Lines(maps) {
		f := strings.Fields(string(line))
		switch {
		case len(f) >= 5 && strings.Contains(f[0], "-"):
			ours = len(f) == 6 && strings.HasPrefix(f[5], dir) && strings.HasSuffix(f[5], ".sst")
		case ours && (f[0] == "Size:" || f[0] == "Rss:"):
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			if f[0] == "Size:" {
				size += n
			} else {
				rss += n
			}
		}
	}
	return size, rss
}

// What opening has read does not stay in memory, and can be read again.
func TestOpeningGivesMemoryBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	opt := Options{Device: "m1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }}
	j, err := OpenBadger(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	const n = 30_000
	for range n / 500 {
		var rs []protocol.Record
		for range 500 {
			rs = append(rs, protocol.Record{Body: protocol.DeviceEvent{Code: "c", Detail: string(make([]byte, 200))}})
		}
		if _, err := j.Append(rs, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = OpenBadger(dir, opt); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	size, rss := resident(t, dir+"/")
	if size < 5000 || rss > size/8 {
		t.Errorf("%d KB of %d are in memory", rss, size)
	}
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	if _, again := resident(t, dir+"/"); again < size/2 {
		t.Errorf("reading all left %d KB of %d in memory: what is measured?", again, size)
	}
}
