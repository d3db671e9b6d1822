package configs

import (
	"context"
	"crypto/sha256"
	"os"
	"time"
)

// watchEvery is how often a file is looked at. Looking costs one stat; a notification by the kernel
// would miss what an editor renames into place, or a file on a network disk.
const watchEvery = time.Second

// Watch looks at a file until ctx ends, and reads it when it has become another: changed gets what
// loads, refused each error once, and then nothing until the file changes again. What runs keeps its
// configuration meanwhile: nothing is taken from a file that has an error.
//
// A file is read when it has stood still for a moment, so that half of it, which an editor writes in
// two steps, is not told as an error. changed and refused are called by the goroutine Watch is called in.
func Watch[T any](ctx context.Context, path string, load func() (T, error), changed func(T), refused func(error)) {
	told := look(path)
	last, moved := told.fileState, false
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := stat(path); now != last {
			last, moved = now, true
			continue
		}
		if !moved {
			continue
		}
		now := look(path)
		if now.fileState != last {
			last = now.fileState
			continue
		}
		moved = false
		if now.there == told.there && now.sum == told.sum { // touched, or back to what it was
			continue
		}
		told = now
		if c, err := load(); err != nil {
			refused(err)
		} else {
			changed(c)
		}
	}
}

// fileState is what one stat tells.
type fileState struct {
	there bool
	size  int64
	mtime time.Time
}

type looked struct {
	fileState
	sum [sha256.Size]byte
}

func stat(path string) fileState {
	st, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{there: true, size: st.Size(), mtime: st.ModTime()}
}

func look(path string) looked {
	l := looked{fileState: stat(path)}
	if l.size <= maxFile {
		data, _ := os.ReadFile(path) // what is wrong with it, load tells
		l.sum = sha256.Sum256(data)
	}
	return l
}
