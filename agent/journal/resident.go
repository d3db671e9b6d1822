package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// letGo gives back the memory in which the tables are mapped: opening has read all that may not be lost, once, and a
// small box has other uses for as much memory as its journal is long. The pages
// are the file's own and are mapped again when they are read; what this cannot do, it leaves.
//
// No table may be given up meanwhile, as another mapping could take its place: it is called by who uses the
// journal, and while nothing is compacted.
func (f *folder) letGo() {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps") // proc(5): from-to perms offset device inode path
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		f := strings.Fields(string(line))
		if len(f) < 6 || !strings.HasPrefix(f[5], dir+"/") || !strings.HasSuffix(f[5], ".sst") {
			continue
		}
		low, high, _ := strings.Cut(f[0], "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if err1 != nil || err2 != nil || to <= from {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED)
	}
}
