package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/protocol/code"
)

// Who asks is told by the socket in the data folder, however long its name is; one that has not moved
// is told from one that works, and after the end the disk is read.
func TestStatusServer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"data", strings.Repeat("long", 40)} {
		data := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		var s statusServer
		if err := s.serve(data, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(filepath.Join(data, statusName))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", st, err)
		}
		ask := func(at time.Time, disk string) Status {
			t.Helper()
			told := Status{Running: IsRunning, Healthy: true, Device: "snack-1", At: at}
			told.Storage.Error = disk
			s.now.Store(&told)
			got, err := AskStatus(data)
			if err != nil || got.Device != "snack-1" {
				t.Fatalf("%+v %v", got, err)
			}
			return got
		}
		if got := ask(time.Now(), ""); got.Running != IsRunning || !got.Healthy {
			t.Errorf("%+v", got)
		}
		if got := ask(time.Now().Add(-time.Minute), ""); got.Running != NotAnswering || got.Healthy {
			t.Errorf("it hangs: %+v", got)
		}
		if got := ask(time.Now().Add(-time.Minute), "read-only"); got.Running != IsRunning || time.Since(got.At) > time.Second {
			t.Errorf("it waits for its disk: %+v", got)
		}
		s.stop()
		got, err := AskStatus(data)
		if err != nil || got.Running != NotRunning || got.Healthy || got.Storage.Code != code.StorageOK {
			t.Errorf("%+v %v", got, err)
		}
	}
	if _, err := AskStatus(filepath.Join(t.TempDir(), "no")); !errors.Is(err, ErrData) {
		t.Error(err)
	}
}

// An abstract socket is found like the other.
func TestStatusAbstract(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, statusName, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var s statusServer
	if err := s.serve(data, slog.New(slog.DiscardHandler)); err != nil || !strings.HasPrefix(s.path, "@") {
		t.Fatalf("%s %v", s.path, err)
	}
	defer s.stop()
	s.now.Store(&Status{Running: IsRunning, At: time.Now()})
	if got, err := AskStatus(data); err != nil || got.Running != IsRunning {
		t.Fatalf("%+v %v", got, err)
	}
}
